"""Padding."""

from __future__ import annotations

import numpy as np
import pytest

from tests.prune_engine.formats.operators.one_node import agree, by_reference, gradient_agrees, holds, model

RANDOM = np.random.default_rng(22)
X = RANDOM.standard_normal((2, 3, 5)).astype(np.float32)


@pytest.mark.parametrize("pads", [[0, 1, 2, 0, 0, 3], [1, 0, 4, 1, 2, 0], [0] * 6])
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_by_attribute_and_by_input(mode: str, pads: list[int]) -> None:
    if mode == "reflect":
        pads = [min(p, 1) if i % 3 == 0 else min(p, 2) for i, p in enumerate(pads)]
    holds("Pad", {"x": X}, opset=10, mode=mode, pads=pads)
    holds("Pad", {"x": X, "pads": np.array(pads)}, opset=13, mode=mode, constants=("pads",))


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_some_axes(mode: str) -> None:
    inputs = {
        "x": X,
        "pads": np.array([1, 2, 2, 1]),
        "value": np.array(1.5, np.float32),
        "axes": np.array([-1, 1]),
    }
    holds("Pad", inputs, gradient=False, opset=19, mode=mode)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_negative_pads_cut(mode: str) -> None:
    inputs = {"x": X, "pads": np.array([0, -1, 1, 0, 1, -2])}
    if mode == "reflect":
        inputs["pads"] = np.array([0, -1, 1, 0, 1, -1])
    holds("Pad", inputs, gradient=False, opset=18, mode=mode)


def test_the_pads_may_be_computed_and_the_value_be_a_list() -> None:
    inputs = {"x": X, "pads": np.array([0, 1, 0, 0, 1, 0]), "value": np.array([2.0], np.float32)}
    proto = model("Pad", inputs, opset=13)
    agree(proto, inputs, [np.pad(X, ((0, 0), (1, 1), (0, 0)), constant_values=2.0)])


@pytest.mark.parametrize("axes", [None, [0, 2], [-1, 1]])
def test_cut_and_fill_around_the_centre(axes: list[int] | None) -> None:
    shape = [3, 2, 8] if axes is None else [2, 8]
    inputs = {"x": X, "shape": np.array(shape)}
    options = {} if axes is None else {"axes": axes}
    proto = model("CenterCropPad", inputs, opset=18, constants=("shape",), **options)
    agree(proto, inputs, by_reference(proto, inputs))
    gradient_agrees(proto, inputs)
