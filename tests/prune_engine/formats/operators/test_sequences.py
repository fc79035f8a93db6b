"""Sequences and optional values inside a graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from prune_engine.formats.importer import compile_graph

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
CONSTANTS = {
    "zero": np.array(0),
    "one": np.array(1),
    "last": np.array(-1),
    "sizes": np.array([1, 2]),
    "two": np.array(2),
    "extra": np.ones((2, 1, 4), np.float32),
}


def node(operator: str, inputs: Sequence[str], output: str, **options: object) -> onnx.NodeProto:
    return helper.make_node(operator, list(inputs), [output], **options)


def agree(nodes: list[onnx.NodeProto], kind: int = TensorProto.FLOAT) -> torch.Tensor:
    used = {name for n in nodes for name in n.input}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items() if name in used],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    x = torch.from_numpy(X.copy()).requires_grad_()
    y = compile_graph(proto)(x)[0]
    np.testing.assert_array_equal(y.detach().numpy(), session.run(None, {"x": X})[0])
    if y.requires_grad:
        y.sum().backward()
        assert x.grad is not None
        assert bool((x.grad > 0).any())
    return y


@pytest.mark.parametrize("sizes", ["", "one", "sizes"])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_split_and_joined(keepdims: int, sizes: str) -> None:
    if sizes == "one":  # onnxruntime drops an axis that the specification keeps
        keepdims = 1
    stack = keepdims == 0 and not sizes
    nodes = [node("SplitToSequence", ["x", sizes] if sizes else ["x"], "s", axis=1, keepdims=keepdims)]
    nodes.append(node("ConcatFromSequence", ["s"], "y", axis=1, new_axis=int(stack)))
    assert agree(nodes).shape == X.shape


def test_built_changed_and_read() -> None:
    nodes = [
        node("SplitToSequence", ["x", "one"], "s0", axis=1),
        node("SequenceInsert", ["s0", "extra", "one"], "s1"),
        node("SequenceErase", ["s1", "zero"], "s2"),
        node("SequenceInsert", ["s2", "extra"], "s3"),
        node("SequenceErase", ["s3"], "s4"),
        node("ConcatFromSequence", ["s4"], "y", axis=1),
    ]
    agree(nodes)


@pytest.mark.parametrize("place", ["zero", "one", "last"])
def test_one_element(place: str) -> None:
    nodes = [
        node("Mul", ["x", "x"], "squares"),
        node("SequenceConstruct", ["squares", "x", "squares"], "s"),
        node("SequenceAt", ["s", place], "y"),
    ]
    agree(nodes)


def test_the_length_is_a_number() -> None:
    nodes = [
        node("SequenceEmpty", [], "s0"),
        node("SequenceInsert", ["s0", "x"], "s1"),
        node("SequenceInsert", ["s1", "x", "zero"], "s2"),
        node("SequenceLength", ["s2"], "n"),
        node("Add", ["n", "one"], "y"),
    ]
    assert agree(nodes, TensorProto.INT64).item() == 3


def test_a_sequence_of_constants() -> None:
    nodes = [
        node("SequenceConstruct", ["extra", "extra"], "s"),
        node("SequenceAt", ["s", "one"], "c"),
        node("Mul", ["x", "c"], "y"),
    ]
    agree(nodes)


def test_optional_values() -> None:
    nodes = [
        node("Optional", ["x"], "o"),
        node("OptionalHasElement", ["o"], "there"),
        node("OptionalGetElement", ["o"], "e"),
        node("Cast", ["there"], "f", to=TensorProto.FLOAT),
        node("Mul", ["e", "f"], "y"),
    ]
    agree(nodes)


def test_a_body_for_every_element() -> None:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Mul", ["a", "b"], "p"), node("Add", ["p", "extra"], "c"), node("Identity", ["b"], "d")],
        "body",
        [value("a", TensorProto.FLOAT, None), value("b", TensorProto.FLOAT, None)],
        [value("c", TensorProto.FLOAT, None), value("d", TensorProto.FLOAT, None)],
    )
    nodes = [
        node("SplitToSequence", ["x", "one"], "s", axis=1),
        helper.make_node("SequenceMap", ["s", "extra"], ["m", "n"], body=body),
        node("ConcatFromSequence", ["m"], "left", axis=1),
        node("ConcatFromSequence", ["n"], "right", axis=1),
        node("Sub", ["left", "right"], "y"),
    ]
    agree(nodes)
