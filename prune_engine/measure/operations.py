"""Multiply-adds of one row: of the dense model, and of the kept weights alone.

Counted are the multiplications of Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU and RNN; padding counts as
if it were data, biases, normalisation and activations do not count. A pruned weight saves its
multiplications at every position at which it is used, so a node's effective number is its number times the
kept share of its weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, shape_inference

from prune_engine.measure.runtime import run_session, session
from prune_engine.report import OperationsInfo

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

_PASSES_ON = frozenset(
    {"Transpose", "Identity", "Cast", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "DequantizeLinear"}
)
_COUNTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"})
_SMALL = 1024


class ShapeUnknownError(Exception):
    """A shape that the count needs is not known; the text says which."""


@dataclass(frozen=True)
class _Products:
    """Multiply-adds that all have the same operands, of which any may be a weight."""

    count: int
    operands: tuple[str, ...]


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
    nodes = [node for node in model.graph.node if node.op_type in _COUNTED]
    needed = {name for node in nodes for name in (*node.input[:3], node.output[0]) if name}
    known = infer_shapes(model, shapes)
    if needed - set(known):
        known |= measured_shapes(model, shapes, sorted(needed - set(known)))
    origin = _origins(model.graph)
    kept = {name: float(mask.mean()) for name, mask in (masks or {}).items()}
    batch = max((shape[0] for shape in shapes.values() if len(shape)), default=1)
    total = 0.0
    for node in nodes:
        for products in _multiply_adds(node, known):
            shares = [kept.get(origin.get(name, name), 1.0) for name in products.operands]
            total += products.count * math.prod(shares)
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


def measured_shapes(
    model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], names: Sequence[str]
) -> dict[str, Shape]:
    """Shapes of these tensors as onnxruntime gives them on zeros, where shape inference gave up.

    Raises:
        ShapeUnknownError: the model does not run on zeros.
    """
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    produced = {name for node in model.graph.node for name in node.output}
    wanted = [name for name in names if name in produced]
    del exposed.graph.output[:]
    exposed.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted)
    initializers = {tensor.name for tensor in model.graph.initializer}
    feed = {}
    for value in model.graph.input:
        if value.name in shapes and value.name not in initializers:
            dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            feed[value.name] = np.zeros(tuple(shapes[value.name]), dtype=dtype)
    try:
        results = run_session(session(exposed), feed)
    except Exception as error:  # noqa: BLE001  onnxruntime has no common class of errors
        reason = " ".join(str(error).split())[:200]
        raise ShapeUnknownError(f"the model does not run on zeros: {reason}") from None
    return {name: tuple(result.shape) for name, result in zip(wanted, results, strict=True)}


def _multiply_adds(node: onnx.NodeProto, known: Mapping[str, Shape]) -> list[_Products]:
    """Multiply-adds of a node for the whole batch."""

    def shape(name: str) -> Shape:
        if name not in known:
            raise ShapeUnknownError(f"the shape of '{name}' at {node.op_type} '{node.name}' is not known")
        return known[name]

    if node.op_type in ("Conv", "ConvTranspose"):
        kernel = shape(node.input[1])
        positions = shape(node.output[0] if node.op_type == "Conv" else node.input[0])
        return [_Products(math.prod(positions) * math.prod(kernel[1:]), (node.input[1],))]
    if node.op_type in ("Gemm", "MatMul"):
        left = shape(node.input[0])
        inner = left[0] if node.op_type == "Gemm" and _attribute(node, "transA", 0) else left[-1]
        return [_Products(math.prod(shape(node.output[0])) * inner, tuple(node.input[:2]))]
    given, first, second = (shape(name) for name in node.input[:3])
    steps = given[0] * given[1]
    return [
        _Products(steps * math.prod(first), (node.input[1],)),
        _Products(steps * math.prod(second), (node.input[2],)),
    ]


def _origins(graph: onnx.GraphProto) -> dict[str, str]:
    """Tensor -> the tensor of which it is a mere rearrangement (through Transpose, Identity, Cast, ...)."""
    origin: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in _PASSES_ON and node.input:
            origin[node.output[0]] = origin.get(node.input[0], node.input[0])
    return origin


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)
