"""Shapes of the values of a graph, as far as ONNX's shape inference finds them."""

from __future__ import annotations

import contextlib
import math

import onnx
from google.protobuf.message import EncodeError
from onnx import helper, shape_inference

_SMALL = 1024  # elements; larger initializers are never shapes


def infer_shapes(proto: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    """Value name -> sizes, None where a size is not a known number; what the file says where inference fails.

    Weights are left out of the inference, so it is quick at any model size.
    """
    inferred = skeleton(proto)
    with contextlib.suppress(shape_inference.InferenceError, EncodeError, ValueError, RuntimeError):
        inferred = shape_inference.infer_shapes(inferred)
    shapes: dict[str, tuple[int | None, ...]] = {}
    graph = inferred.graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if value.type.HasField("tensor_type") and tensor.HasField("shape"):
            dims = tensor.shape.dim
            shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)
    for initializer in graph.initializer:
        shapes[initializer.name] = tuple(initializer.dims)
    return shapes


def skeleton(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with large initializers turned into graph inputs of the same type."""
    graph = onnx.GraphProto(name=proto.graph.name or "graph")
    graph.node.extend(proto.graph.node)
    graph.output.extend(proto.graph.output)
    graph.value_info.extend(proto.graph.value_info)
    names = {tensor.name for tensor in proto.graph.initializer}
    graph.input.extend(value for value in proto.graph.input if value.name not in names)
    for tensor in proto.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            graph.initializer.append(tensor)
        else:
            graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    return helper.make_model(
        graph,
        opset_imports=list(proto.opset_import),
        ir_version=max(proto.ir_version, 4),
        functions=proto.functions,
    )
