"""Weights that a file keeps as integers with a scale: trained as floats, written back as integers.

The parameter is the float that the file means, `(q - zero_point) * scale`. The module computes with the value
that the file will hold, so it sees the rounding while it trains. Straight-through: the rounding counts as the
identity in the backward pass, but for what would move a value further out of the range of the integers; what
moves it back passes, or it would be stuck there. Scale and zero point stay. 0 becomes the zero point exactly,
and whatever is not 0 stays at least one step away from it: pruned weights and zeros are the same set in the
module and in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor

from prune_engine.formats.operators.dtypes import INTEGER_RANGES, NARROW_FLOATS, declared
from prune_engine.formats.operators.rounding import back_into_range, largest, rounded

QUANTISED_TYPES = (set(INTEGER_RANGES) | NARROW_FLOATS) - {TensorProto.FLOAT8E8M0}

_SMALLEST_FLOAT: dict[int, float] = {
    TensorProto.FLOAT8E4M3FN: 2.0**-9,
    TensorProto.FLOAT8E4M3FNUZ: 2.0**-10,
    TensorProto.FLOAT8E5M2: 2.0**-16,
    TensorProto.FLOAT8E5M2FNUZ: 2.0**-17,
    TensorProto.FLOAT4E2M1: 0.5,
}
_SMALLEST_SCALE = 1e-30
"""Under it a float32 cannot tell the steps from zero."""


@dataclass(frozen=True, eq=False)
class Quantisation:
    """How the values of one constant stand for floats: `(q - zero_point) * scale`.

    Args:
        scale: float32, not zero, may be negative; broadcasts with the constant.
        zero_point: float32, whole numbers; broadcasts with the constant.
        element_type: ONNX's number of the type of the constant.
        symmetric: whether the smallest integer stays unused, as runtimes for small devices want it.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    element_type: int
    symmetric: bool = False

    def equals(self, other: Quantisation) -> bool:
        """Whether both give the same floats for the same constant."""
        return (
            self.element_type == other.element_type
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )

    def dequantised(self, values: np.ndarray) -> np.ndarray:
        """Stored values as the floats that they stand for, float32."""
        return np.asarray((values.astype(np.float32) - self.zero_point) * self.scale)

    def quantised(self, values: np.ndarray) -> np.ndarray:
        """Floats as the file stores them, in the numpy type of `element_type`."""
        with torch.no_grad():
            stored = self.steps(
                *(torch.from_numpy(np.array(v)) for v in (values, self.scale, self.zero_point))
            )
        return declared(stored, self.element_type)

    def steps(self, values: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """A kernel: floats as stored values, carried in float32, with straight-through gradients.

        Args:
            values: float32, of the constant's shape.
            scale, zero_point: those of this quantisation, on the device of `values`.
        """
        ratio = values / scale
        if self.element_type in NARROW_FLOATS:
            return self._floats(ratio)
        low, high = INTEGER_RANGES[self.element_type]
        low += self.symmetric
        whole = torch.round(ratio.detach()) + zero_point
        stored = whole.clamp(low, high)
        lost = (stored == zero_point) & (values.detach() != 0.0)
        side = zero_point + torch.where(ratio.detach() < 0.0, -1.0, 1.0)
        side = torch.where((side < low) | (side > high), 2.0 * zero_point - side, side)
        beyond = torch.sign(whole - stored)
        return back_into_range(ratio, torch.where(lost, side, stored), torch.where(lost, 0.0, beyond))

    def _floats(self, ratio: Tensor) -> Tensor:
        values, limit = ratio.detach(), largest(self.element_type)
        stored = rounded(values, self.element_type)
        smallest = torch.copysign(torch.full_like(stored, _SMALLEST_FLOAT[self.element_type]), values)
        stored = torch.where((stored == 0.0) & (values != 0.0), smallest, stored)
        return back_into_range(ratio, stored, torch.sign(values - stored) * (values.abs() > limit))


def quantisation(
    scale: np.ndarray,
    zero_point: np.ndarray | None,
    element_type: int,
    shape: Sequence[int],
    axes: Sequence[int | None],
    own_shape: Sequence[int],
    axis: int,
    block: int = 0,
) -> Quantisation | str:
    """The quantisation of a constant, or why there is none that could be trained.

    Args:
        scale: one value; one for every element of `axis`; or, with a `block`, one for every `block` of them.
        zero_point: as many, or None for 0.
        element_type: of the constant.
        shape: of the constant as the node sees it, behind view-like nodes.
        axes: for each axis of `shape` the constant's own axis, as far as it is one of them.
        own_shape: of the constant itself.
        axis, block: of the node, as DequantizeLinear has them.
    """
    scale = np.asarray(scale, np.float32)
    zeros = np.zeros_like(scale) if zero_point is None else np.asarray(zero_point).astype(np.float32)
    if not (np.isfinite(scale).all() and (np.abs(scale) >= _SMALLEST_SCALE).all()):
        return "its scale is zero or no number"
    if element_type in NARROW_FLOATS and zeros.any():
        return "it has a zero point, which 8-bit and 4-bit floats should not have"
    if scale.size == 1 and zeros.size == 1:
        return Quantisation(scale.reshape(()), zeros.reshape(()), element_type)
    order = [own for own in axes if own is not None]
    whole = sorted(order) == list(range(len(shape)))
    if not whole or [shape[i] for i in np.argsort(order)] != list(own_shape):
        return "it is cut or reshaped before it is scaled by channel"
    spread = [_spread(values, shape, axis, block) for values in (scale, zeros)]
    if any(values is None for values in spread):
        return "its scale does not fit its shape"
    own = [np.ascontiguousarray(v.transpose(np.argsort(order))) for v in spread if v is not None]
    return Quantisation(own[0], own[1], element_type)


def _spread(values: np.ndarray, shape: Sequence[int], axis: int, block: int) -> np.ndarray | None:
    """A scale or zero point in the rank of `shape`, broadcasting with it; None where it does not fit."""
    rank = len(shape)
    if values.size == 1:
        return values.reshape((1,) * rank)
    if not -rank <= axis < rank:
        return None
    axis %= rank
    if block:
        if block < 0 or values.ndim != rank or values.shape[axis] != -(-shape[axis] // block):
            return None
        values = np.repeat(values, block, axis).take(range(shape[axis]), axis)
    elif values.ndim == 1:
        values = values.reshape([-1 if place == axis else 1 for place in range(rank)])
    fits = values.ndim == rank and all(a in (1, b) for a, b in zip(values.shape, shape, strict=True))
    return values if fits else None


def with_unit(base: Quantisation, values: np.ndarray, axis: int) -> Quantisation:
    """`base` with another scale, for integers that the graph scales elsewhere, such as ConvInteger's weight.

    What a step is worth is free then. It is chosen so that the weights have the size that those of a float
    layer have: a root mean square of one over the root of the number of inputs.

    Args:
        values: the constant.
        axis: of the constant's outputs.
    """
    inputs = max(values.size // max(values.shape[axis] if values.ndim else 1, 1), 1)
    size = float(np.sqrt(np.mean(np.square(values.astype(np.float32) - base.zero_point)))) or 1.0
    return replace(base, scale=np.array(1.0 / (size * np.sqrt(inputs)), np.float32))
