"""How closely two runtimes can agree follows from the number types in the file."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prune_engine.precision import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    QUANTISED,
    Precision,
    is_quantised,
    precision_of,
)


def model(nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", [], [], constants)
    return helper.make_model(graph)


def weights(dtype: type) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones((2, 2), dtype), "w")


def test_a_float32_file_is_held_to_float32() -> None:
    assert (
        precision_of(model([helper.make_node("MatMul", ["x", "w"], ["y"])], [weights(np.float32)])) == FLOAT32
    )


def test_a_float16_initializer_means_float16() -> None:
    assert (
        precision_of(model([helper.make_node("MatMul", ["x", "w"], ["y"])], [weights(np.float16)])) == FLOAT16
    )


@pytest.mark.parametrize(
    ("kind", "wanted"), [(TensorProto.FLOAT16, FLOAT16), (TensorProto.BFLOAT16, BFLOAT16)]
)
def test_a_cast_to_a_narrow_type_inside_a_body_counts(kind: int, wanted: Precision) -> None:
    body = helper.make_graph([helper.make_node("Cast", ["x"], ["y"], to=kind)], "b", [], [])
    assert precision_of(model([helper.make_node("If", ["c"], ["z"], then_branch=body)], [])) == wanted


@pytest.mark.parametrize("operator", ["QuantizeLinear", "QLinearConv", "DynamicQuantizeLinear"])
def test_steps_of_a_quantisation_count(operator: str) -> None:
    assert precision_of(model([helper.make_node(operator, ["x"], ["y"])], [weights(np.float16)])) == QUANTISED


def test_weights_alone_in_integers_compute_in_float32() -> None:
    proto = model([helper.make_node("DequantizeLinear", ["w", "s"], ["y"])], [])
    assert precision_of(proto) == FLOAT32
    assert is_quantised(proto)
    assert not is_quantised(model([helper.make_node("MatMul", ["x", "w"], ["y"])], []))
