"""Small quantised graphs, and what holds for each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from prune_engine.formats import OnnxModule, import_onnx, read_values, write_back
from tests.prune_engine.formats.operators.one_node import by_onnxruntime
from tests.prune_engine.formats.running import distance

RANDOM = np.random.default_rng(21)


def run(proto: onnx.ModelProto, x: torch.Tensor) -> list[np.ndarray]:
    """To the letter: onnxruntime's optimisations quantise what is multiplied with dequantised weights."""
    return by_onnxruntime(proto, {"x": x.numpy()})


def array(values: Any, element_type: int) -> np.ndarray:
    return np.asarray(values).astype(helper.tensor_dtype_to_np_dtype(element_type))


def steps(*shape: int) -> np.ndarray:
    return (RANDOM.random(shape) / 20 + 0.01).astype(np.float32)


def stored(shape: Sequence[int], element_type: int = TensorProto.INT8) -> np.ndarray:
    """Values all over the range, zeros among them."""
    low, high = {TensorProto.INT4: (-8, 7), TensorProto.UINT4: (0, 15)}.get(element_type, (-100, 100))
    values = RANDOM.integers(low, high + 1, shape)
    return array(values if element_type != TensorProto.UINT8 else values + 120, element_type)


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    shape: Sequence[int],
    element_type: int = TensorProto.FLOAT,
    microsoft: bool = False,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", element_type, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21)] + [helper.make_opsetid("com.microsoft", 1)] * microsoft
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def dequantise(name: str, output: str, **attributes: Any) -> onnx.NodeProto:
    inputs = [name, f"{name}_s", f"{name}_z"]
    return helper.make_node("DequantizeLinear", inputs, [output], name=f"dq {name}", **attributes)


@dataclass
class Layer:
    """A layer whose weight "w", of `shape`, lies behind a DequantizeLinear; `x` is the shape of its input."""

    kind: str
    shape: tuple[int, ...]
    output_axis: int
    x: tuple[int, ...]
    nodes: Callable[[], list[onnx.NodeProto]]
    more: dict[str, np.ndarray] = field(default_factory=dict)
    element_type: int = TensorProto.FLOAT


def node(operator: str, *inputs: str, outputs: Sequence[str] = ("y",), **attributes: Any) -> Any:
    return lambda: [helper.make_node(operator, list(inputs), list(outputs), name="layer", **attributes)]


RECURRENT = {"r": RANDOM.standard_normal((1, 12, 3)).astype(np.float32)}
LAYERS = {
    "Conv": Layer("Conv", (6, 3, 3, 3), 0, (2, 3, 6, 6), node("Conv", "x", "f")),
    "ConvTranspose": Layer("ConvTranspose", (3, 4, 2, 2), 1, (2, 3, 4, 4), node("ConvTranspose", "x", "f")),
    "MatMul": Layer("MatMul", (8, 5), 1, (3, 8), node("MatMul", "x", "f")),
    "Gemm": Layer("Gemm", (5, 8), 0, (3, 8), node("Gemm", "x", "f", transB=1)),
    "LSTM": Layer("LSTM", (1, 12, 4), 1, (5, 2, 4), node("LSTM", "x", "f", "r", hidden_size=3), RECURRENT),
    "Embedding": Layer("Embedding", (9, 4), 0, (7,), node("Gather", "f", "x"), {}, TensorProto.INT64),
}


def quantised_layer(
    layer: Layer, element_type: int = TensorProto.INT8, axis: int | None = None, block: int = 0
) -> onnx.ModelProto:
    shape: tuple[int, ...] = ()
    options: dict[str, int] = {}
    if axis is not None:
        shape, options = (layer.shape[axis],), {"axis": axis}
    if block:
        assert axis is not None
        sizes = [-(-n // block) if i == axis else n for i, n in enumerate(layer.shape)]
        shape, options = tuple(sizes), {"axis": axis, "block_size": block}
    zero = 120 if element_type == TensorProto.UINT8 else 7 if element_type == TensorProto.UINT4 else 0
    constants = {
        "w": stored(layer.shape, element_type),
        "w_s": steps(*shape),
        "w_z": array(np.full(shape, zero), element_type),
    }
    nodes = [dequantise("w", "f", **options), *layer.nodes()]
    return model(nodes, constants | layer.more, layer.x, layer.element_type)


def example(layer: Layer) -> torch.Tensor:
    if layer.element_type == TensorProto.INT64:
        return torch.from_numpy(RANDOM.integers(0, 9, layer.x))
    return torch.from_numpy(RANDOM.standard_normal(layer.x).astype(np.float32))


def constants_of(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def check(proto: onnx.ModelProto, x: torch.Tensor, kind: str, name: str = "w") -> OnnxModule:
    """Agreement and untouched bytes; then half of the weights are zero, the rest moved: agreement again."""
    module = import_onnx(proto).eval()
    weight = next(w for w in module.prunable if w.name == name)
    assert weight.kind == kind
    assert not any(key.endswith(("_s", "_z")) for key in module.weights)
    assert distance(module(x), run(proto, x)) < 1e-5
    assert write_back(proto, module.state_values()) == proto
    total = module(x)[0].float().square().sum()
    total.backward()
    parameter = module.weights[name]
    assert parameter.grad is not None
    assert bool(parameter.grad.isfinite().all())
    assert float(parameter.grad.abs().sum()) > 0
    mask = torch.from_numpy(RANDOM.random(tuple(parameter.shape)) < 0.5)
    with torch.no_grad():
        parameter.add_(torch.randn_like(parameter) * parameter.abs().mean() * 0.1)
        parameter[parameter == 0] = 1e-7
        parameter.mul_(mask)
    written = write_back(proto, module.state_values())
    assert distance(module(x), run(written, x)) < 1e-5
    values = read_values(written, [name])[name]
    np.testing.assert_array_equal(values != 0, mask.numpy())
    other = {key: value for key, value in constants_of(written).items() if key not in module.weights}
    for key, value in other.items():
        assert value.tobytes() == constants_of(proto)[key].tobytes(), key
    return module


def quantised_input(*nodes: onnx.NodeProto, output: str = "q8") -> list[onnx.NodeProto]:
    return [helper.make_node("QuantizeLinear", ["x", "x_s", "x_z"], [output], name="q x"), *nodes]


INPUT = {"x_s": np.array(0.03, np.float32), "x_z": np.array(128, np.uint8)}
OUTPUT = {"y_s": np.array(0.05, np.float32), "y_z": np.array(128, np.uint8)}
OPERATORS: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], list[onnx.NodeProto], bool]] = {
    "QLinearConv": (
        "Conv",
        (6, 3, 3, 3),
        (2, 3, 6, 6),
        quantised_input(
            helper.make_node(
                "QLinearConv", ["q8", "x_s", "x_z", "w", "w_s", "w_z", "y_s", "y_z"], ["c"], name="it"
            ),
            helper.make_node("DequantizeLinear", ["c", "y_s", "y_z"], ["y"]),
        ),
        False,
    ),
    "QLinearMatMul": (
        "MatMul",
        (8, 5),
        (3, 8),
        quantised_input(
            helper.make_node("QLinearMatMul", ["q8", "x_s", "x_z", "w", "w_s", "w_z", "y_s", "y_z"], ["c"]),
            helper.make_node("DequantizeLinear", ["c", "y_s", "y_z"], ["y"]),
        ),
        False,
    ),
    "ConvInteger": (
        "Conv",
        (6, 3, 3, 3),
        (2, 3, 6, 6),
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q8", "s", "z"]),
            helper.make_node("ConvInteger", ["q8", "w", "z", "w_z"], ["i"]),
            helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["f", "w_s"], ["y"]),
        ],
        False,
    ),
    "MatMulInteger": (
        "MatMul",
        (8, 5),
        (3, 8),
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q8", "s", "z"]),
            helper.make_node("MatMulInteger", ["q8", "w", "z", "w_z"], ["i"]),
            helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["f", "w_s"], ["y"]),
        ],
        False,
    ),
    "QGemm": (
        "Gemm",
        (5, 8),
        (3, 8),
        quantised_input(
            helper.make_node(
                "QGemm",
                ["q8", "x_s", "x_z", "w", "w_s", "w_z"],
                ["y"],
                domain="com.microsoft",
                transB=1,
            ),
        ),
        True,
    ),
    "MatMulIntegerToFloat": (
        "MatMul",
        (8, 5),
        (3, 8),
        quantised_input(
            helper.make_node(
                "MatMulIntegerToFloat",
                ["q8", "w", "x_s", "w_s", "x_z", "w_z"],
                ["y"],
                domain="com.microsoft",
            ),
        ),
        True,
    ),
    "DynamicQuantizeMatMul": (
        "MatMul",
        (8, 5),
        (3, 8),
        [helper.make_node("DynamicQuantizeMatMul", ["x", "w", "w_s", "w_z"], ["y"], domain="com.microsoft")],
        True,
    ),
}
