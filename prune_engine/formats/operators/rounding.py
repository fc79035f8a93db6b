"""Rounding to types that torch does not compute in, with straight-through gradients.

A rounding has no useful derivative. In the backward pass it counts as the identity, where the value lies
inside the range of the type (Bengio, Leonard, Courville 2013, arXiv 1308.3432).
"""

from __future__ import annotations

from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor

from prune_engine.formats.operators.dtypes import INTEGER_RANGES, NARROW_FLOATS, compute_dtype
from prune_engine.formats.operators.table import Kernel

_TORCH: dict[int, torch.dtype] = {
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.FLOAT8E4M3FN: torch.float8_e4m3fn,
    TensorProto.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    TensorProto.FLOAT8E5M2: torch.float8_e5m2,
    TensorProto.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
}
_E4M3FN_ROUNDED_DOWN = 464.0
"""Half a step over the largest value, which is even: up to here it is rounded to."""

FLOAT4_LARGEST = 6.0
_E8M0_SMALLEST, _E8M0_LARGEST = 2.0**-127, 2.0**127


class _BackIntoRange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, beyond: Tensor) -> Tensor:
        ctx.save_for_backward(beyond)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (beyond,) = ctx.saved_tensors
        return gradients[0] * (gradients[0] * beyond >= 0.0), None, None


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, inside: Tensor | None) -> Tensor:
        ctx.save_for_backward(*([] if inside is None else [inside]))
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient, inside = gradients[0], ctx.saved_tensors
        return gradient * inside[0] if inside else gradient, None, None


def straight_through(x: Tensor, value: Tensor, inside: Tensor | None = None) -> Tensor:
    """`value`, with the gradient of `x` where `inside` is True and none elsewhere; all of one shape."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return value
    result: Tensor = _StraightThrough.apply(x, value, inside)  # type: ignore[no-untyped-call]
    return result


def back_into_range(x: Tensor, value: Tensor, beyond: Tensor) -> Tensor:
    """`value`, with the gradient of `x`, but for what would move x further out of the range.

    Args:
        beyond: 1 where x is above the range, -1 where it is below, 0 inside.
    """
    if not (torch.is_grad_enabled() and x.requires_grad):
        return value
    result: Tensor = _BackIntoRange.apply(x, value, beyond)  # type: ignore[no-untyped-call]
    return result


def largest(element_type: int) -> float:
    """The largest finite value of a float type of at most 16 bits."""
    if element_type == TensorProto.FLOAT4E2M1:
        return FLOAT4_LARGEST
    if element_type == TensorProto.FLOAT8E8M0:
        return _E8M0_LARGEST
    return torch.finfo(_TORCH[element_type]).max


def rounded(x: Tensor, element_type: int, saturate: bool = True, round_mode: str = "up") -> Tensor:
    """Floats rounded to a float type, carried in float32; wider types leave them as they are.

    Args:
        x: float32.
        element_type: ONNX's number of the type.
        saturate: what is too large for an 8-bit float becomes its largest value, instead of infinity or NaN.
        round_mode: "up", "down" or "nearest", for float8e8m0, which holds nothing but powers of two.
    """
    if element_type == TensorProto.FLOAT8E8M0:
        return straight_through(x, _power_of_two(x.detach(), saturate, round_mode))
    if element_type == TensorProto.FLOAT4E2M1:
        return straight_through(x, _float4(x.detach()), x.detach().abs() <= FLOAT4_LARGEST)
    if element_type not in _TORCH:
        return x
    dtype, values, inside = _TORCH[element_type], x.detach(), None
    if element_type in NARROW_FLOATS:
        limit = torch.finfo(dtype).max
        inside = values.abs() <= limit
        values = _limited(values, element_type, limit, saturate)
    return straight_through(x, values.to(dtype).float(), inside)


def _limited(x: Tensor, element_type: int, limit: float, saturate: bool) -> Tensor:
    """What is beyond an 8-bit type's range, in the way that the conversion asks for; NaN stays."""
    if saturate:
        return x.clamp(-limit, limit)
    if element_type == TensorProto.FLOAT8E4M3FN:  # torch saturates this one alone
        return torch.where(x.abs() <= _E4M3FN_ROUNDED_DOWN, x, torch.nan)
    return x


def _float4(x: Tensor) -> Tensor:
    """One sign, two exponent bits, one mantissa bit: 0, 0.5, 1, 1.5, 2, 3, 4, 6; ties go to the even one."""
    size = x.abs().clamp_max(FLOAT4_LARGEST)
    step = torch.where(size < 2.0, 0.5, torch.where(size < 4.0, 1.0, 2.0))
    value = torch.copysign(torch.round(size / step) * step, x)
    return torch.where(x.isnan(), 0.0, value)  # it has no NaN: the reference makes zero of it


def _power_of_two(x: Tensor, saturate: bool, round_mode: str) -> Tensor:
    """float8e8m0: an exponent and nothing else. Zero and what is too small become its smallest value."""
    mantissa, exponent = torch.frexp(x)
    whole = exponent - 1  # x = (2 * mantissa) * 2 ** whole, with 2 * mantissa in [1, 2)
    more = {"up": mantissa > 0.5, "nearest": mantissa >= 0.75, "down": torch.zeros_like(mantissa > 0.5)}
    power = (whole + more[round_mode].to(whole.dtype)).to(x.dtype)
    power = torch.where(x == 0.0, -127.0, power).clamp_min(-127.0)
    value = torch.exp2(power.double().clamp_max(127.0)).float()
    over = (power > 127.0) | x.isinf()
    value = torch.where(over, _E8M0_LARGEST if saturate else torch.nan, value)
    return torch.where(x.isnan() | (x < 0.0), torch.nan, value)


def whole(x: Tensor, element_type: int) -> Tensor:
    """Numbers as integers of an ONNX type: fractions are cut off, what is too large wraps around.

    Returns:
        A tensor of the type that carries `element_type`.
    """
    dtype = compute_dtype(element_type)
    if element_type in (TensorProto.INT2, TensorProto.INT4, TensorProto.UINT2, TensorProto.UINT4):
        low, high = INTEGER_RANGES[element_type]
        return (torch.remainder(x.to(torch.int64) - low, high - low + 1) + low).to(dtype)
    return x.to(dtype)


def cast(element_type: int, saturate: bool = True, round_mode: str = "up") -> Kernel:
    """A kernel: tensors of any type as the tensor that carries `element_type`, rounded to it."""
    if compute_dtype(element_type) is not torch.float32:
        return lambda x: whole(x, element_type)
    return lambda x: rounded(x.float(), element_type, saturate, round_mode)
