"""The pruned file in onnxruntime against the trained module, as closely as the file's types allow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from prune_engine.agreement import outputs_agree, values_are_written
from prune_engine.formats import OnnxModule, import_onnx
from prune_engine.measure import session

RANDOM = np.random.default_rng(0)


def graph(
    nodes: Sequence[onnx.NodeProto], constants: dict[str, np.ndarray], kind: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """A graph from x [4, 8] to y."""
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 8])]
    outputs = [helper.make_tensor_value_info("y", kind, None)]
    proto = helper.make_graph(list(nodes), "g", inputs, outputs, tensors)
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def plain() -> onnx.ModelProto:
    return graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": RANDOM.standard_normal((8, 3)).astype("f4")}
    )


def rounded() -> onnx.ModelProto:
    """A product whose result is quantised to steps of 0.05."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("QuantizeLinear", ["p", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    weight = RANDOM.standard_normal((8, 3)).astype("f4")
    return graph(nodes, {"w": weight, "s": np.float32(0.05), "z": np.int8(0)})


FEED = {"x": RANDOM.standard_normal((4, 8)).astype(np.float32)}


def check(proto: onnx.ModelProto, module: OnnxModule) -> tuple[bool, str]:
    found = outputs_agree(proto, session(proto), module, FEED)
    return found.passed, found.detail


def shifted(proto: onnx.ModelProto, by: float) -> OnnxModule:
    module = import_onnx(proto)
    with torch.no_grad():
        module.weights["w"].add_(by)
    return module


def test_the_same_values_agree() -> None:
    proto = plain()
    assert check(proto, import_onnx(proto)) == (True, check(proto, import_onnx(proto))[1])


def test_it_is_compared_in_full_float32_and_torch_left_as_it_was() -> None:
    seen: list[bool] = []
    proto = plain()
    module = import_onnx(proto)
    kinds = (torch.backends.cudnn, torch.backends.cuda.matmul)
    module.register_forward_pre_hook(lambda *_: seen.extend(kind.allow_tf32 for kind in kinds))
    before = [kind.allow_tf32 for kind in kinds]
    assert before[0]  # torch's default, on a GPU: ten bits of a product are right
    assert check(proto, module)[0]
    assert seen == [False, False]
    assert [kind.allow_tf32 for kind in kinds] == before


def test_a_float32_file_is_held_to_the_fourth_digit() -> None:
    proto = plain()
    passed, detail = check(proto, shifted(proto, 0.001))
    assert not passed
    assert "at most 1e-04 (float32)" in detail


def test_a_step_of_a_quantisation_is_no_failure_but_a_few_on_average_are() -> None:
    proto = rounded()
    assert check(proto, shifted(proto, 1e-5))[0]
    passed, detail = check(proto, shifted(proto, 0.05))
    assert not passed
    assert "on average" in detail


def test_where_onnxruntime_computes_something_else_than_the_file_says_it_is_asked_to_the_letter() -> None:
    """It turns a product with dequantised weights into one that quantises the other side, too."""
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["f"]),
        helper.make_node("MatMul", ["x", "f"], ["y"]),
    ]
    stored = RANDOM.integers(-90, 90, (8, 3)).astype(np.int8)
    proto = graph(nodes, {"w": stored, "s": np.array(0.01, np.float32), "z": np.array(0, np.int8)})
    passed, detail = check(proto, import_onnx(proto))
    assert passed
    assert "compared without" in detail
    assert not check(proto, shifted(proto, 0.05))[0]


def test_class_numbers_agree_or_do_not() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("ArgMax", ["p"], ["y"], axis=1, keepdims=0),
    ]
    proto = graph(nodes, {"w": RANDOM.standard_normal((8, 3)).astype("f4")}, TensorProto.INT64)
    assert check(proto, import_onnx(proto))[0]
    module = import_onnx(proto)
    with torch.no_grad():
        module.weights["w"].neg_()
    assert not check(proto, module)[0]


def test_a_row_whose_two_classes_tie_may_fall_to_either() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("ArgMax", ["p"], ["y"], axis=1, keepdims=0),
    ]
    proto = graph(nodes, {"w": np.eye(8, 3, dtype=np.float32)}, TensorProto.INT64)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    rows = np.zeros((32, 8), np.float32)
    rows[:, 0], rows[:, 1] = 1.0, 0.5
    rows[:1, 1] = 1.0  # the tie: the first class, until its weight is a little smaller
    module = import_onnx(proto)
    with torch.no_grad():
        module.weights["w"][0, 0] -= 1e-6
    runtime = session(proto)
    assert (module(torch.from_numpy(rows))[0].numpy() != runtime.run(None, {"x": rows})[0]).sum() == 1
    assert outputs_agree(proto, runtime, module, {"x": rows}).passed
    rows[:2, 1] = 1.0
    assert not outputs_agree(proto, runtime, module, {"x": rows}).passed


def test_equal_infinities_agree() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Div", ["p", "o"], ["y"])]
    proto = graph(nodes, {"w": RANDOM.standard_normal((8, 3)).astype("f4"), "o": np.zeros(1, np.float32)})
    assert check(proto, import_onnx(proto))[0]


@pytest.mark.parametrize("name", ["w", "b"])
def test_every_value_in_the_file_is_compared(name: str) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"])]
    proto = graph(nodes, {"w": np.ones((8, 3), np.float32), "b": np.ones(3, np.float32)})
    module = import_onnx(proto)
    assert values_are_written(proto, module).passed
    with torch.no_grad():
        module.weights[name].view(-1)[0] = 1.0 + 2.0**-23
    found = values_are_written(proto, module)
    assert not found.passed
    assert repr(name) in found.detail
