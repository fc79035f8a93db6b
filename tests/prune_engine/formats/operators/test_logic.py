"""Comparison, logic and choice."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from tests.prune_engine.formats.operators.one_node import agree, by_onnxruntime, holds, model

BOOL = {"y0": 9}
A, B = np.array([[1.0, 2.0, np.nan]], np.float32), np.array([[1.0], [3.0]], np.float32)


@pytest.mark.parametrize("operator", ["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"])
def test_comparisons_broadcast(operator: str) -> None:
    holds(operator, {"a": A, "b": B}, gradient=False, opset=16, types=BOOL)
    whole = {"a": np.array([1, 2, 3]), "b": np.array(2)}
    holds(operator, whole, gradient=False, opset=16, types=BOOL)


@pytest.mark.parametrize("operator", ["And", "Or", "Xor"])
def test_logic(operator: str) -> None:
    inputs = {"a": np.array([[True, False]]), "b": np.array([[True], [False]])}
    holds(operator, inputs, gradient=False, opset=13, types=BOOL)


def test_not() -> None:
    holds("Not", {"a": np.array([True, False])}, gradient=False, opset=13, types=BOOL)


def test_choice_has_a_gradient_on_both_sides() -> None:
    inputs = {
        "c": np.array([[True], [False]]),
        "a": np.array([1.0, 2.0], np.float32),
        "b": np.array(5.0, np.float32),
    }
    holds("Where", inputs, opset=16)


def test_before_opset_7_operands_were_lined_up_by_an_axis() -> None:
    a, b = np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.array([4, 5, 17], np.float32)
    proto = model("Greater", {"a": a, "b": b}, opset=6, broadcast=1, axis=1, types=BOOL)
    agree(proto, {"a": a, "b": b}, [a > b[:, None]])


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("operator", ["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"])
def test_tensors_are_compared_with_sizes(operator: str, swapped: bool) -> None:
    """The size of an axis is a Python number here."""
    value = helper.make_tensor_value_info
    names = ["n", "x"] if swapped else ["x", "n"]
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node(operator, names, ["b"]),
        helper.make_node("Where", ["b", *names], ["y"]),
    ]
    zero = numpy_helper.from_array(np.array(0), "zero")
    graph = helper.make_graph(
        nodes, "g", [value("x", 7, ["a"])], [value("y", 7, None), value("b", 9, None)], [zero]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    x = {"x": np.array([1, 3, 5])}
    agree(proto, x, by_onnxruntime(proto, x))
