"""QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear, with straight-through gradients.

Quantised integers are carried in float32 (`carried`): the gradient of what a DequantizeLinear gives reaches
what its QuantizeLinear took, wherever that was inside the range of the integers.
"""

from __future__ import annotations

import torch
from onnx import TensorProto
from torch import Tensor

from prune_engine.formats.operators.carried import carries
from prune_engine.formats.operators.dtypes import INTEGER_RANGES
from prune_engine.formats.operators.rounding import rounded, straight_through
from prune_engine.formats.operators.table import Kernel, Node, NotSupportedError, operator

MICROSOFT = "com.microsoft"


def spread(parameter: Tensor, x: Tensor, axis: int = 1, block: int = 0) -> Tensor:
    """A scale or zero point in a shape that broadcasts with `x`.

    Args:
        parameter: one value; one per element of `axis`; or, with a `block`, of the rank of `x`: one for every
            `block` elements along `axis`.
    """
    if parameter.numel() == 1:
        return parameter.reshape(())
    if block:
        return parameter.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    if parameter.dim() == 1:
        shape = [1] * x.dim()
        shape[axis] = -1
        return parameter.reshape(shape)
    return parameter


def quantised(
    x: Tensor, scale: Tensor, zero_point: Tensor | None, element_type: int, saturate: bool = True
) -> Tensor:
    """`x / scale + zero_point`, rounded to an integer or narrow float type; carried in float32.

    `scale` and `zero_point` broadcast with `x`. Where the value is beyond the range there is no gradient.
    """
    return whole_steps(x / scale.detach(), zero_point, element_type, saturate)


def whole_steps(ratio: Tensor, zero_point: Tensor | None, element_type: int, saturate: bool = True) -> Tensor:
    """A value that is already divided by its scale, quantised as `quantised` does it."""
    if element_type not in INTEGER_RANGES:
        return rounded(ratio if zero_point is None else ratio + zero_point.float(), element_type, saturate)
    low, high = INTEGER_RANGES[element_type]
    whole = torch.round(ratio.detach())
    if zero_point is not None:
        whole = whole + zero_point.float()
    value = whole.clamp(low, high)
    return straight_through(ratio, value, value == whole)


def dequantised(x: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
    """`(x - zero_point) * scale`; integers may be carried in float32."""
    if zero_point is None:
        return x.float() * scale
    return (x.float() - zero_point.float()) * scale


@operator("QuantizeLinear", since=10)
@operator("QuantizeLinear", since=1, domain=MICROSOFT)
def _quantize_linear(node: Node) -> Kernel:
    element_type, saturate = _quantize_types(node)[0], bool(node.attribute("saturate", 1))
    axis, block = node.attribute("axis", 1), node.attribute("block_size", 0)
    precision = node.attribute("precision", 0) or TensorProto.FLOAT
    _known(node, element_type)

    def kernel(x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
        scale = spread(scale.detach(), x, axis, block).float()
        if zero_point is not None:
            zero_point = spread(zero_point, x, axis, block)
        ratio = rounded(x.float() / scale, precision)
        return whole_steps(ratio, zero_point, element_type, saturate)

    return kernel


@carries("QuantizeLinear")
@carries("QuantizeLinear", domain=MICROSOFT)
def _quantize_types(node: Node) -> tuple[int]:
    return (node.types.get(2) or node.attribute("output_dtype", 0) or TensorProto.UINT8,)


def _known(node: Node, element_type: int) -> None:
    if element_type == TensorProto.FLOAT8E8M0 or element_type in (TensorProto.INT64, TensorProto.UINT64):
        raise NotSupportedError(f"values quantised to {TensorProto.DataType.Name(element_type)}")


@operator("DequantizeLinear", since=10)
@operator("DequantizeLinear", since=1, domain=MICROSOFT)
def _dequantize_linear(node: Node) -> Kernel:
    axis, block = node.attribute("axis", 1), node.attribute("block_size", 0)

    def kernel(x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
        scale = spread(scale, x, axis, block).float()
        return dequantised(x, scale, None if zero_point is None else spread(zero_point, x, axis, block))

    return kernel


@carries("DequantizeLinear")
@carries("DequantizeLinear", domain=MICROSOFT)
def _dequantize_types(node: Node) -> tuple[int]:
    return (node.attribute("output_dtype", 0) or node.types.get(1) or TensorProto.FLOAT,)


def dynamically_quantised(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A tensor as uint8 over its own range, which is made to hold 0; its scale; its zero point.

    Scale and zero point count as constants in the backward pass: together with the rounded values they are an
    identity, whose gradient goes through the values alone.
    """
    values = x.detach()
    if values.numel() == 0:
        return x, values.new_ones(()), values.new_zeros(())
    low, high = values.amin().clamp_max(0.0), values.amax().clamp_min(0.0)
    scale = torch.where(high == low, 1.0, (high - low) / 255.0)
    zero_point = torch.round((-low / scale).clamp(0.0, 255.0))
    return quantised(x, scale, zero_point, TensorProto.UINT8), scale, zero_point


@operator("DynamicQuantizeLinear", since=11)
def _dynamic_quantize_linear(node: Node) -> Kernel:
    return dynamically_quantised


@carries("DynamicQuantizeLinear")
def _dynamic_types(node: Node) -> tuple[int, int, int]:
    return TensorProto.UINT8, TensorProto.FLOAT, TensorProto.UINT8
