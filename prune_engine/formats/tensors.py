"""TensorProto <-> numpy, with the size checked before memory is asked for."""

from __future__ import annotations

import math
import sys

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from prune_engine.errors import ExternalDataError, ModelError

_BITS: dict[int, int] = {
    TensorProto.FLOAT: 32,
    TensorProto.DOUBLE: 64,
    TensorProto.FLOAT16: 16,
    TensorProto.BFLOAT16: 16,
    TensorProto.INT64: 64,
    TensorProto.INT32: 32,
    TensorProto.INT16: 16,
    TensorProto.INT8: 8,
    TensorProto.UINT64: 64,
    TensorProto.UINT32: 32,
    TensorProto.UINT16: 16,
    TensorProto.UINT8: 8,
    TensorProto.BOOL: 8,
    TensorProto.COMPLEX64: 64,
    TensorProto.COMPLEX128: 128,
    TensorProto.INT4: 4,
    TensorProto.UINT4: 4,
    TensorProto.FLOAT8E4M3FN: 8,
    TensorProto.FLOAT8E4M3FNUZ: 8,
    TensorProto.FLOAT8E5M2: 8,
    TensorProto.FLOAT8E5M2FNUZ: 8,
    TensorProto.FLOAT8E8M0: 8,
    TensorProto.FLOAT4E2M1: 4,
    TensorProto.INT2: 2,
    TensorProto.UINT2: 2,
}
_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_MOST_DIMENSIONS = 64  # of a numpy array
_TYPED_FIELDS: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.STRING: "string_data",
}


def element_bits(element_type: int) -> int | None:
    """Bits of one value of an ONNX element type; None for strings and unknown types."""
    return _BITS.get(element_type)


def dtype_name(element_type: int) -> str:
    """numpy's name of an ONNX element type, e.g. "float32"."""
    if element_type not in _BITS and element_type != TensorProto.STRING:
        return "unknown"
    return str(onnx.helper.tensor_dtype_to_np_dtype(element_type))


def check_tensor(tensor: TensorProto, where: str) -> None:
    """Compares what a tensor claims to hold with the bytes that are there. Allocates nothing.

    Raises:
        ExternalDataError: the values are in another file.
        ModelError: a negative size, an unknown type, or more or fewer values than the shape says.
    """
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise ExternalDataError(
            f"{where} keeps its values in another file, which was not sent. Send a .zip of model.onnx and "
            "its data files, or save the model as one file: "
            "onnx.save(onnx.load(path), 'model.onnx', save_as_external_data=False)."
        )
    if tensor.HasField("segment"):
        raise ModelError(f"{where} is a segment of a tensor, which nobody reads. Save the model again.")
    if any(size < 0 for size in tensor.dims):
        raise ModelError(
            f"{where} has the shape {list(tensor.dims)}: a size is negative. The file is damaged."
        )
    if len(tensor.dims) > _MOST_DIMENSIONS:
        raise ModelError(f"{where} has {len(tensor.dims)} dimensions. The file is damaged.")
    if tensor.data_type == TensorProto.STRING:
        return
    bits = _BITS.get(tensor.data_type)
    if bits is None:
        raise ModelError(f"{where} has the unknown element type {tensor.data_type}. The file is damaged.")
    count = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        wanted, found, unit = (count * bits + 7) // 8, len(tensor.raw_data), "bytes"
    else:
        field = _TYPED_FIELDS.get(tensor.data_type, "int32_data")
        if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
            field, count = ("float_data" if bits == 64 else "double_data"), 2 * count
        wanted, found, unit = count, len(getattr(tensor, field)), "values"
        if bits < 8 and field == "int32_data":
            wanted = (count * bits + 7) // 8
    if wanted != found:
        raise ModelError(
            f"{where} has the shape {list(tensor.dims)}, which takes {wanted} {unit}, but holds {found}. "
            "The file is damaged or cut off."
        )


def to_numpy(tensor: TensorProto, where: str = "A tensor") -> np.ndarray:
    """The values of a tensor (bfloat16 as ml_dtypes' bfloat16). Raises what `check_tensor` raises."""
    plain = tensor.data_type == TensorProto.FLOAT and len(tensor.dims) <= _MOST_DIMENSIONS
    if plain and tensor.HasField("raw_data") and not tensor.external_data:
        raw = tensor.raw_data  # each look at it copies it
        if all(size >= 0 for size in tensor.dims) and len(raw) == 4 * math.prod(tensor.dims):
            return np.frombuffer(raw, "<f4").reshape(tuple(tensor.dims))
    check_tensor(tensor, where)
    values: np.ndarray = numpy_helper.to_array(tensor)
    return values


def set_values(tensor: TensorProto, values: np.ndarray) -> None:
    """Overwrites a tensor's values in the storage form that it has; nothing is touched where they are equal.

    Raises:
        ValueError: `values` has another shape or dtype.
    """
    wanted = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if values.shape != tuple(tensor.dims) or values.dtype != wanted:
        raise ValueError(
            f"{tensor.name!r} is {wanted} of shape {tuple(tensor.dims)}, not {values.dtype} of {values.shape}"
        )
    if tensor.HasField("raw_data"):
        fresh = _raw(tensor, values)
        if tensor.raw_data != fresh:
            tensor.raw_data = fresh
        return
    if numpy_helper.to_array(tensor).tobytes() == values.tobytes():
        return
    field = _TYPED_FIELDS.get(tensor.data_type, "int32_data")
    stored = getattr(tensor, field)
    del stored[:]
    stored.extend(_in_32_bits(tensor, values) if field == "int32_data" else values.reshape(-1).tolist())


def _raw(tensor: TensorProto, values: np.ndarray) -> bytes:
    """Values as `raw_data` holds them; those of whole bytes without the copies that onnx makes."""
    if (element_bits(tensor.data_type) or 0) >= 8 and sys.byteorder == "little":
        return values.tobytes()
    contiguous = np.ascontiguousarray(values).reshape(values.shape)
    return bytes(numpy_helper.from_array(contiguous, tensor.name).raw_data)


def _in_32_bits(tensor: TensorProto, values: np.ndarray) -> list[int]:
    """Values as `int32_data` holds them: integers as they are, halves by their bits, the rest by the byte."""
    if tensor.data_type in _HALVES:
        return values.view(np.uint16).reshape(-1).tolist()
    if values.dtype.kind in "biu":
        return values.astype(np.int32).reshape(-1).tolist()
    return list(numpy_helper.from_array(values).raw_data)
