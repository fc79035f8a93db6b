"""Small models to look through, each with something to be said about it."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.prune_engine.formats.graphs import model, values


def two_layers(**changed: np.ndarray) -> onnx.ModelProto:
    """Gemm (4 -> 6), Relu, Gemm (6 -> 3); `changed` replaces initializers."""
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], name="first", transB=1),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["y"], name="second", transB=1),
    ]
    constants = {"w1": values(6, 4), "b1": values(6), "w2": values(3, 6, seed=1), "b2": values(3)}
    return model(nodes, constants | changed, output=("n", 3))


def with_a_stranger() -> onnx.ModelProto:
    """A layer, and behind it two operators that nobody knows."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
        helper.make_node("Mystery", ["h"], ["m"], name="first stranger", domain="com.acme"),
        helper.make_node("Mystery", ["m"], ["y"], name="second stranger", domain="com.acme"),
    ]
    proto = model(nodes, {"w": values(4, 3)}, output=("n", 3))
    proto.opset_import.append(helper.make_opsetid("com.acme", 2))
    return proto


def shared_weight() -> onnx.ModelProto:
    """One square weight that three products use."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="one"),
        helper.make_node("MatMul", ["a", "w"], ["b"], name="two"),
        helper.make_node("MatMul", ["b", "w"], ["y"], name="three"),
    ]
    return model(nodes, {"w": values(4, 4)}, output=("n", 4))


def folded_convolutions(count: int = 3) -> onnx.ModelProto:
    """Convolutions with biases, as after folding BatchNormalization; a fixed batch of 1."""
    nodes, constants, here = [], {}, "x"
    for place in range(count):
        there = "y" if place == count - 1 else f"h{place}"
        nodes.append(helper.make_node("Conv", [here, f"w{place}", f"b{place}"], [there], name=f"conv{place}"))
        constants |= {f"w{place}": values(2, 2, 1, 1, seed=place), f"b{place}": values(2)}
        here = there
    return model(nodes, constants, shape=(1, 2, 4, 4), output=(1, 2, 4, 4))


def two_inputs() -> onnx.ModelProto:
    """Token ids and a mask, an embedding, a layer."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], name="embedding"),
        helper.make_node("Unsqueeze", ["mask", "last"], ["m"], name="unsqueeze"),
        helper.make_node("Mul", ["e", "m"], ["h"], name="masked"),
        helper.make_node("ReduceMean", ["h"], ["p"], name="pool", axes=[1], keepdims=0),
        helper.make_node("MatMul", ["p", "w"], ["y"], name="product"),
    ]
    constants = {"table": values(20, 5), "w": values(5, 2), "last": np.array([-1])}
    graph = helper.make_graph(
        nodes,
        "graph",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "length"]),
            helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["n", "length"]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def double_convolution() -> onnx.ModelProto:
    """A convolution in float64, for which onnxruntime has no kernel on a CPU."""
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    constants = {"w": values(2, 2, 1, 1, dtype=np.float64)}
    proto = model(
        [node], constants, shape=("n", 2, 4, 4), element_type=TensorProto.DOUBLE, output=("n", 2, 4, 4)
    )
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    return proto


def half_precision() -> onnx.ModelProto:
    """A product in float16."""
    product = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    constants = {"w": values(4, 3, dtype=np.float16)}
    proto = model([product], constants, element_type=TensorProto.FLOAT16, output=("n", 3))
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    return proto


def without_weights() -> onnx.ModelProto:
    """Nothing to prune."""
    return model([helper.make_node("Relu", ["x"], ["y"], name="relu")], {}, output=("n", 4))
