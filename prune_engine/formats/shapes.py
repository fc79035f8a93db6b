"""Shapes that a file declares for the values of its graph.

ONNX's own shape inference is native code that a damaged graph can end the process with, so it is not asked.
Where a file declares nothing, some shape arithmetic runs on tensors instead of Python numbers.
"""

from __future__ import annotations

import onnx


def declared_shapes(graph: onnx.GraphProto) -> dict[str, tuple[int | None, ...]]:
    """Value name -> sizes, None where a size is no number or negative; only values whose rank is declared."""
    shapes: dict[str, tuple[int | None, ...]] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if value.type.HasField("tensor_type") and tensor.HasField("shape"):
            dims = tensor.shape.dim
            shapes[value.name] = tuple(
                d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in dims
            )
    for initializer in graph.initializer:
        shapes[initializer.name] = tuple(initializer.dims)
    return shapes


def declared_types(graph: onnx.GraphProto) -> dict[str, int]:
    """Value name -> ONNX element type, of tensors that the file declares."""
    values = (*graph.input, *graph.value_info, *graph.output)
    types = {v.name: int(v.type.tensor_type.elem_type) for v in values if v.type.HasField("tensor_type")}
    return types | {tensor.name: int(tensor.data_type) for tensor in graph.initializer}
