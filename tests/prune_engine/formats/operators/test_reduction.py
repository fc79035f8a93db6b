"""Reductions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper

from prune_engine.formats.importer import compile_graph
from tests.prune_engine.formats.operators.one_node import agree, by_reference, holds, model

RANDOM = np.random.default_rng(13)
X = (RANDOM.permutation(24).reshape(2, 3, 4) / 12 + 0.2).astype(np.float32)
OPERATORS = ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"]
OPERATORS += ["ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"]


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [None, [1], [0, -1], [-2, 2]])
@pytest.mark.parametrize("operator", OPERATORS)
def test_by_attribute_and_by_input(operator: str, axes: list[int] | None, keepdims: int) -> None:
    last = 12 if operator == "ReduceSum" else 17
    holds(operator, {"x": X}, opset=last, keepdims=keepdims, **({} if axes is None else {"axes": axes}))
    inputs = {"x": X, "axes": None if axes is None else np.array(axes)}
    constants = () if axes is None else ("axes",)
    holds(operator, inputs, gradient=False, opset=18, keepdims=keepdims, constants=constants)


@pytest.mark.parametrize("operator", OPERATORS)
def test_no_axes_may_mean_none(operator: str) -> None:
    inputs = {"x": X, "axes": np.array([], np.int64)}
    for noop in (0, 1):
        proto = model(operator, inputs, opset=18, noop_with_empty_axes=noop, constants=("axes",))
        agree(proto, inputs, by_reference(proto, inputs))


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("operator", [o for o in OPERATORS if o not in ("ReduceLogSum", "ReduceLogSumExp")])
def test_integers(operator: str, dtype: Any) -> None:
    x = RANDOM.integers(-5, 6, (3, 4)).astype(dtype)
    kind = {"y0": helper.np_dtype_to_tensor_dtype(x.dtype)}
    holds(operator, {"x": x}, gradient=False, opset=12, types=kind, axes=[1])


@pytest.mark.parametrize(
    ("operator", "value"),
    [
        ("ReduceSum", 0.0),
        ("ReduceProd", 1.0),
        ("ReduceMax", -np.inf),
        ("ReduceMin", np.inf),
        ("ReduceL1", 0.0),
        ("ReduceL2", 0.0),
        ("ReduceSumSquare", 0.0),
        ("ReduceLogSum", -np.inf),
        ("ReduceLogSumExp", -np.inf),
    ],
)
def test_of_nothing(operator: str, value: float) -> None:
    x = np.zeros((2, 0, 3), np.float32)
    inputs = {"x": x, "axes": np.array([1])}
    proto = model(operator, inputs, opset=18, keepdims=0, constants=("axes",))
    agree(proto, inputs, [np.full((2, 3), value, np.float32)])


def test_extremes_of_no_integers_are_the_ends_of_their_type() -> None:
    inputs = {"x": np.zeros((2, 0), np.int32), "axes": np.array([1])}
    for operator, value in (("ReduceMax", -(2**31)), ("ReduceMin", 2**31 - 1)):
        proto = model(operator, inputs, opset=18, keepdims=0, types={"y0": 6}, constants=("axes",))
        agree(proto, inputs, [np.full(2, value, np.int32)])


@pytest.mark.parametrize("operator", ["ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceProd"])
def test_gradients_at_zero_are_finite(operator: str) -> None:
    module = compile_graph(model(operator, {"x": X}, opset=17, axes=[1]))
    x = torch.zeros(X.shape, requires_grad=True)
    module(x)[0].sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
def test_places_of_extremes(operator: str, axis: int, keepdims: int, last: int) -> None:
    x = RANDOM.integers(0, 3, (4, 5)).astype(np.float32)
    options = {"axis": axis, "keepdims": keepdims, "select_last_index": last}
    holds(operator, {"x": x}, gradient=False, opset=13, types={"y0": 7}, **options)
