"""Random graphs from a grammar of operators, with weights kept and reached in every way that files have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

BATCH = 3
FLOAT, HALF, DOUBLE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE
IMAGE_LAYERS = ("conv", "conv", "depthwise", "norm", "activation", "residual", "split", "pool", "reshaped")
ROW_LAYERS = (
    "gemm",
    "matmul",
    "shared",
    "layer norm",
    "activation",
    "residual",
    "split",
    "reshaped",
    "branch",
    "loop",
    "half",
    "parts",
)
ACTIVATIONS = ("Relu", "Tanh", "Sigmoid", "Elu", "Softplus", "Identity")


@dataclass
class Builder:
    """A graph while it grows; every choice comes from `draw`."""

    draw: st.DrawFn
    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: list[onnx.TensorProto] = field(default_factory=list)
    count: int = 0

    def name(self, kind: str = "h") -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, self.name("n"), **attributes))
        return names[0]

    def numbers(self, *given: int) -> str:
        return self.constant(np.array(given, np.int64))

    def constant(self, array: np.ndarray) -> str:
        """A tensor as an initializer or in a Constant node."""
        name = self.name("c")
        if self.draw(st.booleans()):
            self.stored.append(numpy_helper.from_array(array, name))
        else:
            tensor = numpy_helper.from_array(array, "value")
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def array(self, *shape: int) -> np.ndarray:
        generator = np.random.default_rng(self.draw(st.integers(0, 999)))
        scale = max(float(np.sqrt(np.prod(shape[1:]))), 1.0)
        return np.asarray(generator.standard_normal(shape) / scale, np.float32)

    def weight(self, *shape: int) -> str:
        """A weight of this shape, behind nodes that only move its values."""
        way = self.draw(st.sampled_from(["plain", "transposed", "reshaped", "unsqueezed", "half", "double"]))
        array = self.array(*shape)
        if way == "transposed":
            order = list(range(len(shape)))[::-1]
            return self.add("Transpose", self.constant(array.transpose(order).copy()), perm=order)
        if way == "reshaped":
            return self.add("Reshape", self.constant(array.reshape(-1)), self.numbers(*shape))
        if way == "unsqueezed" and self.opset >= 13:
            wide = self.add("Unsqueeze", self.constant(array), self.numbers(0))
            return self.add("Squeeze", wide, self.numbers(0))
        if way == "half":
            return self.add("Cast", self.constant(array.astype(np.float16)), to=FLOAT)
        if way == "double":
            return self.add("Cast", self.constant(array.astype(np.float64)), to=FLOAT)
        return self.constant(array)

    def size(self) -> int:
        return 2 * self.draw(st.integers(1, 3))

    def image(self, x: str, channels: int, kind: str) -> tuple[str, int]:
        """One layer on [n, channels, 6, 6]."""
        if kind == "conv":
            size = self.size()
            inputs = [x, self.weight(size, channels, 3, 3)]
            if self.draw(st.booleans()):
                inputs.append(self.constant(self.array(size)))
            return self.add("Conv", *inputs, pads=[1, 1, 1, 1]), size
        if kind == "depthwise":
            return self.add("Conv", x, self.weight(channels, 1, 3, 3), pads=[1] * 4, group=channels), channels
        if kind == "norm":
            parts = [self.constant(np.abs(self.array(channels)) + 0.5) for _ in range(4)]
            return self.add("BatchNormalization", x, *parts), channels
        if kind == "activation":
            return self.add(self.draw(st.sampled_from(ACTIVATIONS)), x), channels
        if kind == "residual":
            other = self.add("Conv", x, self.weight(channels, channels, 1, 1))
            return self.add("Add", x, other), channels
        if kind == "split":
            first, second = self.halves(x, channels, 1)
            joined = self.add("Concat", self.add("Tanh", second), first, axis=1)
            return joined, channels
        if kind == "pool":
            return self.add("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4), channels
        flat = self.add("Reshape", x, self.numbers(0, channels, -1))
        return self.add("Reshape", flat, self.numbers(0, 0, 6, 6)), channels

    def halves(self, x: str, size: int, axis: int) -> tuple[str, str]:
        first, second = self.name(), self.name()
        inputs, attributes = [x], dict[str, Any](axis=axis)
        if self.opset < 13:
            attributes["split"] = [size // 2, size - size // 2]
        else:
            inputs.append(self.numbers(size // 2, size - size // 2))
        self.nodes.append(helper.make_node("Split", inputs, [first, second], self.name("n"), **attributes))
        return first, second

    def rows(self, x: str, width: int, kind: str) -> tuple[str, int]:
        """One layer on [n, width]."""
        if kind == "gemm":
            size, flipped = self.size(), self.draw(st.booleans())
            shape = (size, width) if flipped else (width, size)
            inputs = [x, self.weight(*shape), self.constant(self.array(size))]
            return self.add("Gemm", *inputs, transB=int(flipped)), size
        if kind == "matmul":
            size = self.size()
            product = self.add("MatMul", x, self.weight(width, size))
            return self.add("Add", product, self.constant(self.array(size))), size
        if kind == "shared":
            weight = self.weight(width, width)
            again = self.add("Tanh", self.add("MatMul", x, weight))
            return self.add("MatMul", again, weight), width
        if kind == "layer norm" and self.opset >= 17:
            scale, shift = self.constant(self.array(width) + 1), self.constant(self.array(width))
            return self.add("LayerNormalization", x, scale, shift), width
        if kind == "residual":
            return self.add("Add", x, self.add("MatMul", x, self.weight(width, width))), width
        if kind == "split":
            first, second = self.halves(x, width, 1)
            return self.add("Concat", self.add("Sigmoid", second), first, axis=1), width
        if kind == "reshaped":
            flat = self.add("Reshape", x, self.numbers(-1, width // 2, 2))
            turned = self.add("Transpose", flat, perm=[0, 2, 1])
            return self.add("Reshape", turned, self.numbers(0, width)), width
        if kind == "branch":
            return self.branch(x, width), width
        if kind == "loop":
            return self.loop(x, width), width
        if kind == "half":
            narrow = self.add("Cast", x, to=HALF)
            product = self.add("MatMul", narrow, self.constant(self.array(width, width).astype(np.float16)))
            return self.add("Cast", product, to=FLOAT), width
        if kind == "parts":
            first, second = self.halves(self.weight(2 * width, width), 2 * width, 0)
            return self.add("Sub", self.add("MatMul", x, first), self.add("MatMul", x, second)), width
        return self.add(self.draw(st.sampled_from(ACTIVATIONS)), x), width

    def inner(self, x: str, width: int, operator: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """The nodes of a body that gives "r", with a weight that every body calls "w"."""
        weight = self.array(width, width)
        nodes = [helper.make_node("MatMul", [x, "w"], ["p"]), helper.make_node(operator, ["p"], ["r"])]
        if self.draw(st.booleans()):
            return nodes, [numpy_helper.from_array(weight, "w")]
        tensor = numpy_helper.from_array(weight, "value")
        return [helper.make_node("Constant", [], ["w"], value=tensor), *nodes], []

    def branch(self, x: str, width: int) -> str:
        """An If whose condition is known, or depends on the values."""
        result = [helper.make_tensor_value_info("r", FLOAT, [BATCH, width])]
        bodies = []
        for operator in ("Relu", "Tanh"):
            nodes, stored = self.inner(x, width, operator)
            bodies.append(helper.make_graph(nodes, operator, [], result, stored))
        if self.draw(st.booleans()):
            condition = self.constant(np.array(self.draw(st.booleans())))
        else:
            condition = self.add(
                "Greater", self.add("ReduceMean", x, keepdims=0), self.constant(np.array(0, np.float32))
            )
        return self.add("If", condition, then_branch=bodies[0], else_branch=bodies[1])

    def loop(self, x: str, width: int) -> str:
        """A Loop of a known number of rounds."""
        nodes, stored = self.inner("s", width, "Tanh")
        nodes.append(helper.make_node("Identity", ["go"], ["on"]))
        body = helper.make_graph(
            nodes,
            "rounds",
            [
                helper.make_tensor_value_info("i", TensorProto.INT64, []),
                helper.make_tensor_value_info("go", TensorProto.BOOL, []),
                helper.make_tensor_value_info("s", FLOAT, [BATCH, width]),
            ],
            [
                helper.make_tensor_value_info("on", TensorProto.BOOL, []),
                helper.make_tensor_value_info("r", FLOAT, [BATCH, width]),
            ],
            stored,
        )
        rounds = self.constant(np.array(self.draw(st.integers(1, 3)), np.int64))
        return self.add("Loop", rounds, "", x, body=body)


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    """A model from "x", an image or a row of features, to "y", with at least one weight."""
    opset = draw(st.sampled_from([11, 13, 17, 20, 21]))
    builder = Builder(draw, opset)
    current, size, shape = "x", 4, [BATCH, 4]
    if draw(st.booleans()):
        size, shape = 2, [BATCH, 2, 6, 6]
        for kind in ["conv", *draw(st.lists(st.sampled_from(IMAGE_LAYERS), max_size=3))]:
            current, size = builder.image(current, size, kind)
        current = builder.add("Flatten", builder.add("GlobalAveragePool", current))
    for kind in draw(st.lists(st.sampled_from(ROW_LAYERS), max_size=4)):
        current, size = builder.rows(current, size, kind)
    current = builder.add("MatMul", current, builder.weight(size, 2))
    builder.nodes.append(helper.make_node("Identity", [current], ["y"]))
    inputs = [helper.make_tensor_value_info("x", FLOAT, shape)]
    if draw(st.booleans()):  # files of IR 3 list their initializers
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in builder.stored]
    outputs = [helper.make_tensor_value_info("y", FLOAT, [BATCH, 2])]
    graph = helper.make_graph(builder.nodes, "random", inputs, outputs, builder.stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
