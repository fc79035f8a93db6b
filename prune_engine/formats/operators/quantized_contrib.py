"""onnxruntime's own quantised operators (com.microsoft): dequantise, compute, quantise.

The reference is onnxruntime. Some of its kernels round by tables or in fixed point: outputs may differ by one
step of the output's scale.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from onnx import TensorProto
from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators.carried import carries
from prune_engine.formats.operators.quantization import (
    MICROSOFT,
    dequantised,
    dynamically_quantised,
    quantised,
)
from prune_engine.formats.operators.quantized_products import by_column, float_kernel, product
from prune_engine.formats.operators.table import Kernel, Node, operator


def _type(node: Node, zero_point: int, like: int = 0) -> int:
    """The type of a quantised output: that of its zero point, else that of an input."""
    return node.types.get(zero_point) or node.types.get(like) or TensorProto.UINT8


def _binary(node: Node, compute: Callable[[Tensor, Tensor], Tensor]) -> Kernel:
    element_type = _type(node, 7)

    def kernel(
        a: Tensor,
        a_scale: Tensor,
        a_zero: Tensor | None,
        b: Tensor,
        b_scale: Tensor,
        b_zero: Tensor | None,
        scale: Tensor,
        zero: Tensor | None = None,
    ) -> Tensor:
        result = compute(dequantised(a, a_scale, a_zero), dequantised(b, b_scale, b_zero))
        return quantised(result, scale, zero, element_type)

    return kernel


@operator("QLinearAdd", since=1, domain=MICROSOFT)
def _qlinear_add(node: Node) -> Kernel:
    return _binary(node, torch.add)


@operator("QLinearMul", since=1, domain=MICROSOFT)
def _qlinear_mul(node: Node) -> Kernel:
    return _binary(node, torch.mul)


@carries("QLinearAdd", "QLinearMul", domain=MICROSOFT)
def _binary_types(node: Node) -> tuple[int]:
    return (_type(node, 7),)


def _unary(node: Node, compute: Callable[[Tensor], Tensor]) -> Kernel:
    element_type = _type(node, 4)

    def kernel(
        x: Tensor, x_scale: Tensor, x_zero: Tensor | None, scale: Tensor, zero: Tensor | None = None
    ) -> Tensor:
        return quantised(compute(dequantised(x, x_scale, x_zero)), scale, zero, element_type)

    return kernel


@operator("QLinearLeakyRelu", since=1, domain=MICROSOFT)
def _qlinear_leaky_relu(node: Node) -> Kernel:
    alpha = node.attribute("alpha", 0.01)
    return _unary(node, lambda x: functional.leaky_relu(x, alpha))


@operator("QLinearSigmoid", since=1, domain=MICROSOFT)
def _qlinear_sigmoid(node: Node) -> Kernel:
    return _unary(node, torch.sigmoid)


@operator("QLinearSoftmax", since=1, domain=MICROSOFT)
def _qlinear_softmax(node: Node) -> Kernel:
    axis = node.attribute("axis", -1)
    if node.attribute("opset", 13) >= 13:
        return _unary(node, lambda x: torch.softmax(x, axis))

    def over_the_rest(x: Tensor) -> Tensor:
        return torch.softmax(x.flatten(axis % x.dim()), -1).reshape(x.shape)

    return _unary(node, over_the_rest)


@operator("QLinearGlobalAveragePool", since=1, domain=MICROSOFT)
def _qlinear_global_average_pool(node: Node) -> Kernel:
    first = 1 if node.attribute("channels_last", 0) else 2
    return _unary(node, lambda x: x.mean(list(range(first, first + x.dim() - 2)), keepdim=True))


@operator("QLinearAveragePool", since=1, domain=MICROSOFT)
def _qlinear_average_pool(node: Node) -> Kernel:
    pool = float_kernel(node, "AveragePool")
    if not node.attribute("channels_last", 0):
        return _unary(node, pool)
    return _unary(node, lambda x: pool(x.movedim(-1, 1)).movedim(1, -1))


@carries(
    "QLinearLeakyRelu",
    "QLinearSigmoid",
    "QLinearSoftmax",
    "QLinearGlobalAveragePool",
    "QLinearAveragePool",
    domain=MICROSOFT,
)
def _unary_types(node: Node) -> tuple[int]:
    return (_type(node, 4),)


@operator("QLinearConcat", since=1, domain=MICROSOFT)
def _qlinear_concat(node: Node) -> Kernel:
    axis, element_type = node.attribute("axis"), _concat_types(node)[0]

    def kernel(scale: Tensor, zero: Tensor, *parts: Tensor) -> Tensor:
        triples = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
        whole = torch.cat([dequantised(*triple) for triple in triples], axis)
        return quantised(whole, scale, zero, element_type)

    return kernel


@carries("QLinearConcat", domain=MICROSOFT)
def _concat_types(node: Node) -> tuple[int]:
    return (_type(node, 1, 2),)


@operator("QLinearWhere", since=1, domain=MICROSOFT)
def _qlinear_where(node: Node) -> Kernel:
    element_type = _where_types(node)[0]

    def kernel(
        condition: Tensor,
        x: Tensor,
        x_scale: Tensor,
        x_zero: Tensor,
        y: Tensor,
        y_scale: Tensor,
        y_zero: Tensor,
        scale: Tensor,
        zero: Tensor,
    ) -> Tensor:
        picked = torch.where(condition, dequantised(x, x_scale, x_zero), dequantised(y, y_scale, y_zero))
        return quantised(picked, scale, zero, element_type)

    return kernel


@carries("QLinearWhere", domain=MICROSOFT)
def _where_types(node: Node) -> tuple[int]:
    return (_type(node, 8, 1),)


@operator("QGemm", since=1, domain=MICROSOFT)
def _qgemm(node: Node) -> Kernel:
    alpha, element_type = node.attribute("alpha", 1.0), _gemm_types(node)[0]
    trans_a, trans_b = bool(node.attribute("transA", 0)), bool(node.attribute("transB", 0))

    def kernel(
        a: Tensor,
        a_scale: Tensor,
        a_zero: Tensor,
        b: Tensor,
        b_scale: Tensor,
        b_zero: Tensor,
        c: Tensor | None = None,
        scale: Tensor | None = None,
        zero: Tensor | None = None,
    ) -> Tensor:
        total = product(a.t() if trans_a else a, b.t() if trans_b else b, a_zero, b_zero)
        if c is not None:
            total = total + c.float()
        result = total * (alpha * a_scale * by_column(b_scale))
        return result if scale is None else quantised(result, scale, zero, element_type)

    return kernel


@carries("QGemm", domain=MICROSOFT)
def _gemm_types(node: Node) -> tuple[int]:
    return (_type(node, 8) if node.has_input(7) else TensorProto.FLOAT,)


@operator("MatMulIntegerToFloat", since=1, domain=MICROSOFT)
def _matmul_integer_to_float(node: Node) -> Kernel:
    def kernel(
        a: Tensor,
        b: Tensor,
        a_scale: Tensor,
        b_scale: Tensor,
        a_zero: Tensor | None = None,
        b_zero: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        result = product(a, b, a_zero, b_zero) * (a_scale * by_column(b_scale))
        return result if bias is None else result + bias

    return kernel


@operator("DynamicQuantizeMatMul", since=1, domain=MICROSOFT)
def _dynamic_quantize_matmul(node: Node) -> Kernel:
    def kernel(
        a: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        whole, scale, zero = dynamically_quantised(a)
        result = product(whole, b, zero, b_zero) * (scale * by_column(b_scale))
        return result if bias is None else result + bias

    return kernel


@carries("MatMulIntegerToFloat", "DynamicQuantizeMatMul", domain=MICROSOFT)
def _float_types(node: Node) -> tuple[int]:
    return (TensorProto.FLOAT,)
