"""ONNX element types in torch. Every float type computes in float32, so that training has one precision.

What torch lacks is carried in a wider tensor: 16-, 8- and 4-bit floats in float32, the 2- and 4-bit integers
in 8 bits, unsigned integers over 8 bits in the next signed type. Only Cast and QuantizeLinear round to them.
"""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import TensorProto
from torch import Tensor

from prune_engine.formats.operators.table import NotSupportedError

FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
"""Types of trained values; narrower floats exist only behind a scale."""

NARROW_FLOATS = {
    TensorProto.FLOAT8E4M3FN,
    TensorProto.FLOAT8E4M3FNUZ,
    TensorProto.FLOAT8E5M2,
    TensorProto.FLOAT8E5M2FNUZ,
    TensorProto.FLOAT8E8M0,
    TensorProto.FLOAT4E2M1,
}

_COMPUTE: dict[int, torch.dtype] = {
    **dict.fromkeys(FLOATS | NARROW_FLOATS, torch.float32),
    TensorProto.INT64: torch.int64,
    TensorProto.INT32: torch.int32,
    TensorProto.INT16: torch.int16,
    TensorProto.INT8: torch.int8,
    TensorProto.INT4: torch.int8,
    TensorProto.INT2: torch.int8,
    TensorProto.UINT2: torch.uint8,
    TensorProto.UINT4: torch.uint8,
    TensorProto.UINT8: torch.uint8,
    TensorProto.UINT16: torch.int32,
    TensorProto.UINT32: torch.int64,
    TensorProto.UINT64: torch.int64,
    TensorProto.BOOL: torch.bool,
}

INTEGER_RANGES: dict[int, tuple[int, int]] = {
    **{
        getattr(TensorProto, f"INT{bits}"): (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        for bits in (2, 4, 8, 16, 32)
    },
    **{getattr(TensorProto, f"UINT{bits}"): (0, 2**bits - 1) for bits in (2, 4, 8, 16, 32)},
}
"""Smallest and largest value of the integer types that values are quantised to."""


def compute_dtype(element_type: int) -> torch.dtype:
    """The torch type in which an ONNX element type is computed.

    Raises:
        NotSupportedError: for strings and complex numbers.
    """
    if element_type not in _COMPUTE:
        known = element_type in TensorProto.DataType.values()
        name = TensorProto.DataType.Name(element_type) if known else f"unknown (type {element_type})"
        raise NotSupportedError(f"{name} values", "Export the model with float32 or float16 tensors.")
    return _COMPUTE[element_type]


def carried(array: np.ndarray, element_type: int) -> Tensor:
    """Values of an ONNX element type as the tensor that the importer computes with; a copy.

    Raises:
        NotSupportedError: for strings and complex numbers.
    """
    dtype = str(compute_dtype(element_type)).removeprefix("torch.")
    return torch.from_numpy(np.array(array).astype(dtype))


def declared(tensor: Tensor, element_type: int) -> np.ndarray:
    """A computed tensor as an array of the ONNX element type that the graph declares for it."""
    wanted = onnx.helper.tensor_dtype_to_np_dtype(element_type)
    values: np.ndarray = tensor.detach().cpu().numpy()
    return values.astype(wanted)
