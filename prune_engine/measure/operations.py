"""Multiply-adds of one row: of the dense model, and of the kept weights alone.

Counted are the multiplications of Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU and RNN; padding counts as if
it were
data, biases, normalisation and activations do not count. A pruned weight saves its multiplications at every
position at which it is used, so a node's effective number is its number times the kept share of its weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, shape_inference

from prune_engine.report import OperationsInfo

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

_PASSES_ON = frozenset(
    {"Transpose", "Identity", "Cast", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "DequantizeLinear"}
)
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_SMALL = 1024


class ShapeUnknownError(Exception):
    """A shape that the count needs is not known; the text says which."""


@dataclass(frozen=True)
class _Node:
    """Multiply-adds of one node, and the operands that hold its weights with their share of them."""

    total: int
    weights: tuple[tuple[str, float], ...]


def count_operations(
    model: onnx.ModelProto,
    masks: Mapping[str, Array] | None,
    shapes: Mapping[str, Sequence[int]],
) -> int | None:
    """Multiply-adds of one row; with masks, only those with a kept weight. None: see `operations_info`.

    Args:
        model: the model.
        masks: True = kept, by initializer name.
        shapes: of the model's inputs by name, with the batch axis.
    """
    try:
        return _count(model, masks, shapes)
    except ShapeUnknownError:
        return None


def operations_info(
    model: onnx.ModelProto, masks: Mapping[str, Array], shapes: Mapping[str, Sequence[int]]
) -> tuple[OperationsInfo, str | None]:
    """Both counts, and the reason where they could not be had."""
    try:
        return OperationsInfo(
            before=_count(model, None, shapes), effective=_count(model, masks, shapes)
        ), None
    except ShapeUnknownError as reason:
        return OperationsInfo(before=None, effective=None), f"Multiply-adds could not be counted: {reason}"


def _count(
    model: onnx.ModelProto, masks: Mapping[str, Array] | None, shapes: Mapping[str, Sequence[int]]
) -> int:
    known = infer_shapes(model, shapes)
    origin = _origins(model.graph)
    batch = max((shape[0] for shape in shapes.values() if len(shape)), default=1)
    total = 0.0
    for node in model.graph.node:
        counted = _multiply_adds(node, known)
        if counted is None:
            continue
        total += counted.total * _kept_share(counted, masks, origin)
    return round(total / max(1, batch))


def infer_shapes(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> dict[str, Shape]:
    """Shapes of all tensors for these input shapes, by onnx's shape inference; unknown ones are left out.

    Large initializers are taken out first: their values do not matter and a model may have gigabytes of them.
    """
    light = onnx.ModelProto()
    light.ir_version = max(4, model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    graph = light.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    graph.output.extend(helper.make_empty_tensor_value_info(output.name) for output in model.graph.output)
    initializers = {tensor.name for tensor in model.graph.initializer}
    known: dict[str, Shape] = {}
    for tensor in model.graph.initializer:
        known[tensor.name] = tuple(tensor.dims)
        if math.prod(tensor.dims) <= _SMALL and tensor.data_type == TensorProto.INT64:
            graph.initializer.append(tensor)
        else:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    for value in model.graph.input:
        if value.name in initializers:
            continue
        element = value.type.tensor_type.elem_type
        shape = shapes.get(value.name)
        graph.input.append(
            value if shape is None else helper.make_tensor_value_info(value.name, element, list(shape))
        )
        if shape is not None:
            known[value.name] = tuple(shape)
    try:
        inferred = shape_inference.infer_shapes(light, data_prop=True)
    except (shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise ShapeUnknownError(f"shape inference failed: {' '.join(str(error).split())[:200]}") from None
    for value in [*inferred.graph.value_info, *inferred.graph.output]:
        axes = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(axis.HasField("dim_value") for axis in axes):
            known[value.name] = tuple(int(axis.dim_value) for axis in axes)
    return known


def _multiply_adds(node: onnx.NodeProto, known: Mapping[str, Shape]) -> _Node | None:
    """Multiply-adds of a node for the whole batch; None for operators that are not counted."""

    def shape(name: str) -> Shape:
        if name not in known:
            raise ShapeUnknownError(f"the shape of '{name}' at {node.op_type} '{node.name}' is not known")
        return known[name]

    if node.op_type == "Conv":
        kernel, out = shape(node.input[1]), shape(node.output[0])
        return _Node(math.prod(out) * math.prod(kernel[1:]), ((node.input[1], 1.0),))
    if node.op_type == "ConvTranspose":
        kernel, given = shape(node.input[1]), shape(node.input[0])
        return _Node(math.prod(given) * math.prod(kernel[1:]), ((node.input[1], 1.0),))
    if node.op_type in ("Gemm", "MatMul"):
        left, out = shape(node.input[0]), shape(node.output[0])
        transposed = node.op_type == "Gemm" and _attribute(node, "transA", 0)
        inner = left[0] if transposed else left[-1]
        return _Node(math.prod(out) * inner, ((node.input[0], 1.0), (node.input[1], 1.0)))
    if node.op_type in _RECURRENT:
        given, first, second = (shape(name) for name in node.input[:3])
        steps = given[0] * given[1]
        sizes = math.prod(first), math.prod(second)
        shares = tuple((name, size / sum(sizes)) for name, size in zip(node.input[1:3], sizes, strict=True))
        return _Node(steps * sum(sizes), shares)
    return None


def _kept_share(node: _Node, masks: Mapping[str, Array] | None, origin: Mapping[str, str]) -> float:
    """The share of the node's multiply-adds that have a kept weight."""
    if masks is None:
        return 1.0
    kept = {
        operand: float(masks[origin.get(operand, operand)].mean())
        for operand, _ in node.weights
        if origin.get(operand, operand) in masks
    }
    if len(node.weights) == 2 and node.weights[0][1] == 1.0:
        return float(np.prod(list(kept.values()))) if kept else 1.0
    return sum(share * kept.get(operand, 1.0) for operand, share in node.weights)


def _origins(graph: onnx.GraphProto) -> dict[str, str]:
    """Tensor -> the tensor of which it is a mere rearrangement (through Transpose, Identity, Cast, ...)."""
    origin: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in _PASSES_ON and node.input:
            origin[node.output[0]] = origin.get(node.input[0], node.input[0])
    return origin


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)
