"""The largest elements, and the different ones."""

from __future__ import annotations

import numpy as np
import pytest

from tests.prune_engine.formats.operators.one_node import holds

RANDOM = np.random.default_rng(5)
BOTH = {"y1": 7}


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("largest", [0, 1])
def test_the_k_largest_and_smallest(largest: int, axis: int) -> None:
    x = RANDOM.permutation(60).reshape(3, 4, 5).astype(np.float32)
    inputs = {"x": x, "k": np.array([2])}
    holds("TopK", inputs, 2, opset=11, types=BOTH, constants=("k",), axis=axis, largest=largest)


@pytest.mark.parametrize("largest", [0, 1])
def test_of_equal_values_the_first_comes_first(largest: int) -> None:
    x = RANDOM.integers(0, 3, (4, 9))
    types = {"y0": 7, "y1": 7}
    inputs = {"x": x, "k": np.array([6])}
    holds("TopK", inputs, 2, gradient=False, opset=11, types=types, constants=("k",), largest=largest)


def test_k_may_be_computed() -> None:
    inputs = {"x": RANDOM.standard_normal((3, 7)).astype(np.float32), "k": np.array([3])}
    holds("TopK", inputs, 2, gradient=False, opset=11, types=BOTH)


def test_k_was_an_attribute_once() -> None:
    x = RANDOM.permutation(12).reshape(3, 4).astype(np.float32)
    holds("TopK", {"x": x}, 2, opset=9, types=BOTH, k=2, axis=1)


@pytest.mark.parametrize("ordered", [0, 1])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_different_elements_and_slices(axis: int | None, ordered: int) -> None:
    x = RANDOM.integers(0, 2, (4, 5)).astype(np.float32)
    x[3], x[:, 4] = x[1], x[:, 0]
    options = {} if axis is None else {"axis": axis}
    types = {"y1": 7, "y2": 7, "y3": 7}
    holds("Unique", {"x": x}, 4, gradient=False, opset=11, types=types, sorted=ordered, **options)


def test_different_values_have_a_gradient() -> None:
    holds("Unique", {"x": np.array([3, 1, 2], np.float32)}, 1, opset=11)
