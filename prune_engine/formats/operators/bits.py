"""Operators on the bits of integers.

Unsigned integers of 64 bits lie in signed ones of 64, those of 16 and 32 bits in wider ones.
"""

from __future__ import annotations

import operator as python

import torch
from onnx import TensorProto
from torch import Tensor

from prune_engine.formats.operators.dtypes import compute_dtype
from prune_engine.formats.operators.table import Kernel, Node, NotSupportedError, function, operator
from prune_engine.formats.operators.unsigned import wrapped

function("BitwiseAnd", python.and_, since=18)
function("BitwiseOr", python.or_, since=18)
function("BitwiseXor", python.xor, since=18)


@operator("BitwiseNot", since=18)
def _bitwise_not(node: Node) -> Kernel:
    return wrapped(node, torch.bitwise_not)


@operator("BitShift", since=11)
def _bit_shift(node: Node) -> Kernel:
    if node.attribute("direction") == "LEFT":
        return wrapped(node, torch.bitwise_left_shift)
    return _shift_right


def _shift_right(x: Tensor, by: Tensor) -> Tensor:
    shifted = torch.bitwise_right_shift(x, by)
    if x.dtype != torch.int64:
        return shifted
    # The sign bit of a 64-bit integer is the highest bit of an unsigned one: zeros come in after it.
    filled = torch.bitwise_left_shift(torch.full_like(x, -1), (64 - by).clamp(0, 63))
    return torch.where((x < 0) & (by > 0), shifted & ~filled, shifted)


_WIDTHS: dict[int, torch.dtype] = {
    TensorProto.INT8: torch.int8,
    TensorProto.UINT8: torch.uint8,
    TensorProto.BOOL: torch.bool,
    TensorProto.INT16: torch.int16,
    TensorProto.UINT16: torch.int16,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.INT32: torch.int32,
    TensorProto.UINT32: torch.int32,
    TensorProto.FLOAT: torch.float32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT64: torch.int64,
    TensorProto.DOUBLE: torch.float64,
}
_UNSIGNED = {TensorProto.UINT16: 0xFFFF, TensorProto.UINT32: 0xFFFFFFFF}
_BY_SIZE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_FLOATS_BY_SIZE = {2: torch.float16, 4: torch.float32, 8: torch.float64}


@operator("BitCast", since=26)
def _bit_cast(node: Node) -> Kernel:
    """The input is as wide as the output. Where its type is not known, 16 bits of a float are float16."""
    to = node.attribute("to")
    if to not in _WIDTHS:
        raise NotSupportedError(f"BitCast to {TensorProto.DataType.Name(to)}", "Cast to 8 bits or more.")
    target, mask, dtype = _WIDTHS[to], _UNSIGNED.get(to), compute_dtype(to)
    source = _WIDTHS.get(node.types.get(0, TensorProto.UNDEFINED))

    def kernel(x: Tensor) -> Tensor:
        size = target.itemsize
        if x.is_floating_point():
            x = x.to(source or _FLOATS_BY_SIZE[size])
        elif x.dtype != torch.bool:
            x = x.to(_BY_SIZE[size])
        result = x.view(target).to(dtype)
        return result if mask is None else result & mask

    return kernel
