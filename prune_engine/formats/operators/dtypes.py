"""ONNX element types in torch. Every float type computes in float32, so that training has one precision."""

from __future__ import annotations

import torch
from onnx import TensorProto

from prune_engine.errors import ModelError

FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}

_COMPUTE: dict[int, torch.dtype] = {
    **dict.fromkeys(FLOATS, torch.float32),
    TensorProto.INT64: torch.int64,
    TensorProto.INT32: torch.int32,
    TensorProto.INT16: torch.int16,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT8: torch.uint8,
    TensorProto.UINT16: torch.int32,
    TensorProto.UINT32: torch.int64,
    TensorProto.UINT64: torch.int64,
    TensorProto.BOOL: torch.bool,
}


def compute_dtype(element_type: int) -> torch.dtype:
    """The torch type in which an ONNX element type is computed.

    Raises:
        ModelError: for strings, complex numbers and the 4- and 8-bit floats.
    """
    if element_type not in _COMPUTE:
        known = element_type in TensorProto.DataType.values()
        name = TensorProto.DataType.Name(element_type) if known else f"unknown (type {element_type})"
        raise ModelError(
            f"The graph computes with {name} values, which Prunery does not train. "
            "Export the model with float32 or float16 tensors."
        )
    return _COMPUTE[element_type]
