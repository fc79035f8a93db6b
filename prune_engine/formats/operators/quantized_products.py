"""Products of quantised tensors: QLinearConv, QLinearMatMul, ConvInteger, MatMulInteger.

They are computed in float32 on the integers less their zero points: the same numbers as long as sums stay
under 2**24, and rounded at the seventh digit beyond, as onnxruntime's own sums are when it scales them.
"""

from __future__ import annotations

import torch
from onnx import TensorProto
from torch import Tensor

from prune_engine.formats.operators.carried import carries
from prune_engine.formats.operators.quantization import spread, whole_steps
from prune_engine.formats.operators.table import Kernel, Node, find, operator


def float_kernel(node: Node, name: str) -> Kernel:
    """The kernel of the float operator `name`, with the attributes of a quantised one."""
    row = find("", name, node.opset if node.domain == "" else 13)
    assert row is not None  # noqa: S101 - a standard operator
    return row.build(node)


def centred(x: Tensor, zero_point: Tensor | None) -> Tensor:
    """Integers less a zero point that broadcasts with them."""
    return x.float() if zero_point is None else x.float() - zero_point.float()


def by_row(parameter: Tensor) -> Tensor:
    """A scale or zero point of a left operand [..., M, K]: one value, one per row [M], or [..., M, 1]."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    return parameter.reshape(-1, 1) if parameter.dim() == 1 else parameter


def by_column(parameter: Tensor) -> Tensor:
    """A scale or zero point of a right operand [..., K, N]: one value, one per column [N], or [..., 1, N]."""
    return parameter.reshape(()) if parameter.numel() == 1 else parameter


def product(a: Tensor, b: Tensor, a_zero: Tensor | None, b_zero: Tensor | None) -> Tensor:
    """The matrix product of integers less their zero points."""
    left = centred(a, None if a_zero is None else by_row(a_zero))
    return torch.matmul(left, centred(b, None if b_zero is None else by_column(b_zero)))


@operator("ConvInteger", since=10)
def _conv_integer(node: Node) -> Kernel:
    convolve = float_kernel(node, "Conv")

    def kernel(
        x: Tensor, weight: Tensor, x_zero: Tensor | None = None, weight_zero: Tensor | None = None
    ) -> Tensor:
        if weight_zero is not None:
            weight_zero = spread(weight_zero, weight, 0)
        total: Tensor = convolve(centred(x, x_zero), centred(weight, weight_zero))
        return total

    return kernel


@operator("MatMulInteger", since=10)
def _matmul_integer(node: Node) -> Kernel:
    def kernel(a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None) -> Tensor:
        return product(a, b, a_zero, b_zero)

    return kernel


@carries("ConvInteger", "MatMulInteger")
def _integer_types(node: Node) -> tuple[int]:
    return (TensorProto.INT32,)


@operator("QLinearConv", since=10)
def _qlinear_conv(node: Node) -> Kernel:
    convolve, element_type = float_kernel(node, "Conv"), _output_type(node)[0]

    def kernel(
        x: Tensor,
        x_scale: Tensor,
        x_zero: Tensor,
        weight: Tensor,
        weight_scale: Tensor,
        weight_zero: Tensor,
        scale: Tensor,
        zero: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        total = convolve(centred(x, x_zero), centred(weight, spread(weight_zero, weight, 0)))
        if bias is not None:
            total = total + spread(bias.float(), total)
        return whole_steps(total * spread(x_scale * weight_scale / scale, total), zero, element_type)

    return kernel


@operator("QLinearMatMul", since=10)
def _qlinear_matmul(node: Node) -> Kernel:
    element_type = _output_type(node)[0]

    def kernel(
        a: Tensor,
        a_scale: Tensor,
        a_zero: Tensor,
        b: Tensor,
        b_scale: Tensor,
        b_zero: Tensor,
        scale: Tensor,
        zero: Tensor,
    ) -> Tensor:
        step = by_row(a_scale) * by_column(b_scale) / by_row(scale)
        return whole_steps(product(a, b, a_zero, b_zero) * step, by_row(zero), element_type)

    return kernel


@carries("QLinearConv", "QLinearMatMul")
def _output_type(node: Node) -> tuple[int]:
    return (node.types.get(7) or node.types.get(0) or TensorProto.UINT8,)
