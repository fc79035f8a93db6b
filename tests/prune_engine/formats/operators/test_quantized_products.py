"""QLinearConv, QLinearMatMul, ConvInteger and MatMulInteger against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from prune_engine.formats.importer import compile_graph
from tests.prune_engine.formats.operators.one_node import Inputs, by_onnxruntime, by_reference, fed, model

RANDOM = np.random.default_rng(8)


def scale(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def whole(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    ends = np.iinfo(dtype)
    return RANDOM.integers(max(ends.min, -100), min(ends.max, 200), shape).astype(dtype)


def check(
    operator: str, inputs: Inputs, kind: int, opset: int = 17, reference: bool = False, **more: Any
) -> None:
    proto = model(operator, inputs, opset=opset, types={"y0": kind}, **more)
    wanted = (by_reference if reference else by_onnxruntime)(proto, inputs)[0]
    (found,) = compile_graph(proto)(*(torch.from_numpy(v.copy()) for v in fed(proto, inputs).values()))
    assert str(found.dtype).removeprefix("torch.") == str(wanted.dtype)
    np.testing.assert_array_equal(found.numpy(), wanted)


CONVOLUTIONS = [
    {},
    {"pads": [1, 1, 1, 1], "strides": [2, 1]},
    {"auto_pad": "SAME_UPPER", "kernel_shape": [3, 3]},
    {"group": 2, "dilations": [1, 2]},
]


@pytest.mark.parametrize("options", CONVOLUTIONS)
def test_integer_convolutions(options: dict[str, Any]) -> None:
    inputs = {
        "x": whole(2, 4, 7, 7),
        "w": whole(6, 4 // options.get("group", 1), 3, 3),
        "xz": np.array(7, np.uint8),
        "wz": np.array(100, np.uint8),
    }
    check("ConvInteger", inputs, TensorProto.INT32, **options)
    check("ConvInteger", {"x": inputs["x"], "w": inputs["w"]}, TensorProto.INT32, **options)


@pytest.mark.parametrize("options", CONVOLUTIONS)
@pytest.mark.parametrize("by_channel", [False, True])
def test_quantised_convolutions(options: dict[str, Any], by_channel: bool) -> None:
    scales = (RANDOM.random(6) / 100 + 0.001).astype(np.float32)
    inputs = {
        "x": whole(2, 4, 7, 7),
        "xs": scale(0.02),
        "xz": np.array(120, np.uint8),
        "w": whole(6, 4 // options.get("group", 1), 3, 3, dtype=np.int8),
        "ws": scales if by_channel else scale(0.004),
        "wz": np.zeros(6, np.int8) if by_channel else np.array(0, np.int8),
        "ys": scale(0.05),
        "yz": np.array(100, np.uint8),
        "b": RANDOM.integers(-3000, 3000, 6).astype(np.int32),
    }
    constants = ("ws", "wz")
    check("QLinearConv", inputs, TensorProto.UINT8, constants=constants, **options)
    check("QLinearConv", inputs | {"b": None}, TensorProto.UINT8, constants=constants, **options)


def test_integer_products() -> None:
    a, b = whole(2, 3, 8), whole(8, 5, dtype=np.int8)
    zeros = {"az": np.array(9, np.uint8), "bz": np.array(-3, np.int8)}
    check("MatMulInteger", {"a": a, "b": b}, TensorProto.INT32)
    check("MatMulInteger", {"a": a, "b": b} | zeros, TensorProto.INT32)
    columns = zeros | {"bz": RANDOM.integers(-5, 5, 5).astype(np.int8)}
    check("MatMulInteger", {"a": a, "b": b} | columns, TensorProto.INT32)


def test_a_zero_point_for_every_row() -> None:
    inputs = {
        "a": whole(3, 8),
        "b": whole(8, 5),
        "az": np.array([1, 50, 99], np.uint8),
        "bz": np.array(4, np.uint8),
    }
    proto = model("MatMulInteger", inputs, types={"y0": TensorProto.INT32})
    (found,) = compile_graph(proto)(*(torch.from_numpy(v) for v in inputs.values()))
    wanted = (inputs["a"].astype(int) - inputs["az"].astype(int)[:, None]) @ (inputs["b"].astype(int) - 4)
    np.testing.assert_array_equal(found.numpy(), wanted)


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize("by_column", [False, True])
def test_quantised_products(kind: Any, by_column: bool) -> None:
    columns = (RANDOM.random(5) / 50 + 0.001).astype(np.float32)
    inputs = {
        "a": whole(2, 3, 8, dtype=kind),
        "as": scale(0.02),
        "az": np.array(11, kind),
        "b": whole(8, 5, dtype=np.int8),
        "bs": columns if by_column else scale(0.01),
        "bz": np.zeros(5, np.int8) if by_column else np.array(2, np.int8),
        "ys": scale(0.3),
        "yz": np.array(20, kind),
    }
    element_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    check("QLinearMatMul", inputs, element_type, constants=("bs", "bz"))


def chain(*nodes: onnx.NodeProto, **constants: np.ndarray) -> onnx.ModelProto:
    """From x [2, 4, 6, 6] to y."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", 1, [2, 4, 6, 6])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_the_gradient_of_quantised_arithmetic_is_that_of_the_floats_it_stands_for() -> None:
    weight = whole(3, 4, 3, 3, dtype=np.int8)
    proto = chain(
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        helper.make_node("QLinearConv", ["q", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "ys", "yz"], ["y"]),
        xs=scale(0.04),
        xz=np.array(128, np.uint8),
        w=weight,
        ws=scale(0.01),
        wz=np.array(0, np.int8),
        ys=scale(0.2),
        yz=np.array(128, np.uint8),
    )
    x = torch.from_numpy(RANDOM.standard_normal((2, 4, 6, 6)).astype(np.float32)).requires_grad_()
    (y,) = compile_graph(proto)(x)
    np.testing.assert_array_equal(y.detach().numpy(), by_onnxruntime(proto, {"x": x.detach().numpy()})[0])
    assert float(y.detach().abs().max()) < 25  # nothing was cut off
    y.sum().backward()
    plain = x.detach().clone().requires_grad_()
    torch.nn.functional.conv2d(plain, torch.from_numpy(weight).float() * 0.01).sum().backward()
    assert x.grad is not None
    assert plain.grad is not None
    torch.testing.assert_close(x.grad, plain.grad)


def test_gradients_pass_integers_that_a_cast_turns_into_floats() -> None:
    """As onnxruntime's dynamic quantisation writes it."""
    weight = whole(3, 4, 3, 3, dtype=np.int8)
    proto = chain(
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("ConvInteger", ["q", "w", "z"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "ws"], ["step"]),
        helper.make_node("Mul", ["f", "step"], ["y"]),
        w=weight,
        ws=scale(0.01),
    )
    x = torch.from_numpy(RANDOM.standard_normal((2, 4, 6, 6)).astype(np.float32)).requires_grad_()
    (y,) = compile_graph(proto)(x)
    wanted = by_onnxruntime(proto, {"x": x.detach().numpy()})[0]
    np.testing.assert_allclose(y.detach().numpy(), wanted, rtol=1e-4, atol=1e-4)
    y.sum().backward()
    plain = x.detach().clone().requires_grad_()
    torch.nn.functional.conv2d(plain, torch.from_numpy(weight).float() * 0.01).sum().backward()
    assert x.grad is not None
    assert plain.grad is not None
    torch.testing.assert_close(x.grad, plain.grad, rtol=1e-4, atol=1e-4)
