"""Matrix products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators.table import Kernel, Node, function, operator


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    if a.is_floating_point() or not a.is_cuda:
        return torch.matmul(a, b)
    return torch.matmul(a.double(), b.double()).to(a.dtype)  # CUDA multiplies no matrices of integers


function("MatMul", _matmul)
function("Det", torch.linalg.det, since=11)


@operator("Gemm")
def _gemm(node: Node) -> Kernel:
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    trans_a, trans_b = bool(node.attribute("transA", 0)), bool(node.attribute("transB", 0))
    if trans_b and not trans_a and alpha == 1.0 and (beta == 1.0 or not node.has_input(2)):
        return _linear

    def kernel(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a, b = a.t() if trans_a else a, b.t() if trans_b else b
        if c is None:
            product = torch.mm(a, b)
            return product if alpha == 1.0 else alpha * product
        if not c.is_floating_point():
            whole: Tensor = alpha * torch.mm(a, b) + beta * c
            return whole.to(a.dtype)
        return torch.addmm(c, a, b, beta=beta, alpha=alpha)

    return kernel


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if bias is not None and bias.dim() != 1:
        return torch.addmm(bias, x, weight.t())
    return functional.linear(x, weight, bias)


@operator("Einsum", since=12)
def _einsum(node: Node) -> Kernel:
    equation = node.attribute("equation")

    def kernel(*operands: Any) -> Tensor:
        return torch.einsum(equation, *operands)

    return kernel
