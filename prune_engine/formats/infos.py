"""Names, types and shapes of a graph's inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import ValueInfoProto

from prune_engine.formats.tensors import dtype_name
from prune_engine.report import TensorInfo


def input_infos(proto: onnx.ModelProto) -> list[TensorInfo]:
    """The graph inputs that are not initializers, in order."""
    initializers = {tensor.name for tensor in proto.graph.initializer}
    return _infos(value for value in proto.graph.input if value.name not in initializers)


def output_infos(proto: onnx.ModelProto) -> list[TensorInfo]:
    """The graph outputs, in order."""
    return _infos(proto.graph.output)


def _infos(values: Iterable[ValueInfoProto]) -> list[TensorInfo]:
    return [
        TensorInfo(name=v.name, dtype=dtype_name(v.type.tensor_type.elem_type), shape=_shape(v))
        for v in values
    ]


def _shape(value: ValueInfoProto) -> tuple[int | str | None, ...]:
    sizes: list[int | str | None] = []
    for dim in value.type.tensor_type.shape.dim:
        if dim.HasField("dim_value"):
            sizes.append(dim.dim_value)
        else:
            sizes.append(dim.dim_param or None)
    return tuple(sizes)
