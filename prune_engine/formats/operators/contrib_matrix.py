"""Matrix products that onnxruntime's optimiser fuses with a scale, transpositions or an activation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators import matrix  # noqa: F401  # its rows are looked up
from prune_engine.formats.operators.contrib_activation import fused_activation
from prune_engine.formats.operators.quantization import MICROSOFT
from prune_engine.formats.operators.table import (
    NEWEST_OPSET,
    Kernel,
    Node,
    NotSupportedError,
    find,
    operator,
)


@operator("FusedMatMul", "FusedMatMulActivation", "TransposeMatMul", since=1, domain=MICROSOFT)
def _fused_mat_mul(node: Node) -> Kernel:
    """activation(alpha * op(a) op(b)); `transBatch` takes the first axis in front of the last one."""
    alpha = node.attribute("alpha", 1.0)
    transposed = [bool(node.attribute(name, 0)) for name in ("transA", "transB")]
    moved = [bool(node.attribute(name, 0)) for name in ("transBatchA", "transBatchB")]
    activate = fused_activation(node, numbers(node))

    def operand(x: Tensor, side: int) -> Tensor:
        if moved[side] and x.dim() > 2:
            x = x.movedim(0, -2)
        return x.transpose(-1, -2) if transposed[side] and x.dim() > 1 else x

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        product = operand(a, 0) @ operand(b, 1)
        y: Tensor = activate(product if alpha == 1.0 else product * alpha)
        return y

    return kernel


@operator("FusedGemm", since=1, domain=MICROSOFT)
def _fused_gemm(node: Node) -> Kernel:
    row = find("", "Gemm", NEWEST_OPSET)
    assert row is not None  # noqa: S101  # registered by the import above
    gemm, activate = row.build(node), fused_activation(node, numbers(node))
    return lambda a, b, c=None: activate(gemm(a, b, c))


def numbers(node: Node) -> Mapping[str, float]:
    """The fused activation's alpha, beta and gamma, as far as the node gives them."""
    return {
        name.removeprefix("activation_"): value
        for name, value in node.attributes.items()
        if name in ("activation_alpha", "activation_beta", "activation_gamma")
    }


@operator("GemmFastGelu", since=1, domain=MICROSOFT)
def _gemm_fast_gelu(node: Node) -> Kernel:
    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        product = x @ weight
        return functional.gelu(product if bias is None else product + bias, approximate="tanh")

    return kernel


@operator("TorchEmbedding", since=1, domain=MICROSOFT)
def _torch_embedding(node: Node) -> Kernel:
    """A plain look-up; what its other inputs say about gradients holds for the original training only."""
    return lambda weight, ids, *_: functional.embedding(ids, weight)


@operator("Inverse", since=1, domain=MICROSOFT)
def _inverse(node: Node) -> Kernel:
    return lambda x: torch.linalg.inv(x)


@operator("CDist", since=1, domain=MICROSOFT)
def _distances(node: Node) -> Kernel:
    """Euclidean distances between the rows of two matrices, or their squares."""
    metric = node.attribute("metric", "sqeuclidean")
    if metric not in ("euclidean", "sqeuclidean"):
        raise NotSupportedError(f"the metric {metric!r} of CDist", "Use 'euclidean' or 'sqeuclidean'.")

    def squares(a: Tensor, b: Tensor) -> Tensor:
        return (a.unsqueeze(1) - b.unsqueeze(0)).square().sum(-1)

    return squares if metric == "sqeuclidean" else lambda a, b: torch.cdist(a, b)
