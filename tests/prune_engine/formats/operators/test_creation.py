"""Operators that make tensors out of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from tests.prune_engine.formats.operators.one_node import agree, by_reference, holds, model

RANDOM = np.random.default_rng(33)


@pytest.mark.parametrize("bounds", [(0, 5, 1), (10, 2, -3), (3, 3, 1), (5, 1, 1), (-4, 4, 3)])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float32])
@pytest.mark.parametrize("known", [False, True])
def test_ranges(known: bool, dtype: Any, bounds: tuple[int, int, int]) -> None:
    inputs = {n: np.array(v, dtype) for n, v in zip(("start", "limit", "delta"), bounds, strict=True)}
    kind = {"y0": helper.np_dtype_to_tensor_dtype(np.dtype(dtype))}
    holds("Range", inputs, gradient=False, opset=13, types=kind, constants=tuple(inputs) if known else ())


def test_ranges_of_fractions() -> None:
    inputs = {
        "start": np.array(0.1, np.float32),
        "limit": np.array(1.0, np.float32),
        "delta": np.array(0.3, np.float32),
    }
    holds("Range", inputs, gradient=False, opset=13)


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float32])
def test_one_hot(dtype: Any, axis: int) -> None:
    inputs = {
        "i": RANDOM.integers(-4, 6, (2, 3)).astype(dtype),
        "depth": np.array(5),
        "values": np.array([-1.0, 2.0], np.float32),
    }
    for depth in (np.array(5), np.array([5])):
        proto = model("OneHot", inputs | {"depth": depth}, opset=11, axis=axis)
        agree(proto, inputs | {"depth": depth}, by_reference(proto, inputs))


@pytest.mark.parametrize("k", [0, 1, -2])
@pytest.mark.parametrize("dtype", [None, 7, 1])
def test_ones_on_a_diagonal(dtype: int | None, k: int) -> None:
    options = {} if dtype is None else {"dtype": dtype}
    x = np.zeros((3, 4), np.int32)
    holds("EyeLike", {"x": x}, gradient=False, opset=9, types={"y0": dtype or 6}, k=k, **options)


@pytest.mark.parametrize(
    "value", [None, np.array([3], np.int32), np.array([True]), np.array([0.5], np.float32)]
)
@pytest.mark.parametrize("shape", [[2, 3], [0], []])
def test_constants_of_a_shape(shape: list[int], value: np.ndarray | None) -> None:
    options = {} if value is None else {"value": numpy_helper.from_array(value)}
    kind = {} if value is None else {"y0": helper.np_dtype_to_tensor_dtype(value.dtype)}
    holds("ConstantOfShape", {"s": np.array(shape, np.int64)}, gradient=False, opset=9, types=kind, **options)


@pytest.mark.parametrize(
    ("start", "end"), [(0, None), (1, None), (-2, None), (0, -1), (1, 3), (-100, 100), (2, 1)]
)
def test_shapes(start: int, end: int | None) -> None:
    options = {"start": start} | ({} if end is None else {"end": end})
    holds(
        "Shape", {"x": np.zeros((2, 3, 4), np.float32)}, gradient=False, opset=15, types={"y0": 7}, **options
    )


def test_sizes() -> None:
    holds("Size", {"x": np.zeros((2, 3, 4), np.float32)}, gradient=False, opset=13, types={"y0": 7})
