"""GELU in its forms, and other activations that onnxruntime fuses with what comes before them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators import activation, elementwise  # noqa: F401  # their rows are looked up
from prune_engine.formats.operators.quantization import MICROSOFT
from prune_engine.formats.operators.table import (
    NEWEST_OPSET,
    Kernel,
    Node,
    NotSupportedError,
    find,
    operator,
)


def fused_activation(node: Node, numbers: Mapping[str, float]) -> Kernel:
    """The function that the attribute `activation` names, with its alpha, beta and so on; else the identity.

    Raises:
        NotSupportedError: a function that is no ONNX operator of one input.
    """
    name = node.attribute("activation", "")
    if not name:
        return lambda x: x
    if name == "Clip":
        low, high = numbers.get("alpha"), numbers.get("beta")
        return lambda x: torch.clamp(x, low, high)
    row = find("", name, NEWEST_OPSET)
    if row is None:
        raise NotSupportedError(
            f"the fused activation {name!r}", "Send the file as it was before the fusion."
        )
    return row.build(Node(node.name, "", name, NEWEST_OPSET, ("x",), ("y",), dict(numbers)))


@operator("Gelu", since=1, domain=MICROSOFT)
def _gelu(node: Node) -> Kernel:
    return functional.gelu


@operator("BiasGelu", since=1, domain=MICROSOFT)
def _bias_gelu(node: Node) -> Kernel:
    return lambda x, bias: functional.gelu(x + bias)


@operator("FastGelu", since=1, domain=MICROSOFT)
def _fast_gelu(node: Node) -> Kernel:
    def kernel(x: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.gelu(x if bias is None else x + bias, approximate="tanh")

    return kernel


@operator("QuickGelu", since=1, domain=MICROSOFT)
def _quick_gelu(node: Node) -> Kernel:
    """x * sigmoid(alpha x)."""
    alpha = node.attribute("alpha", 1.702)
    return functional.silu if alpha == 1.0 else lambda x: x * torch.sigmoid(alpha * x)


@operator("ScaledSiLU", since=1, domain=MICROSOFT)
def _scaled_silu(node: Node) -> Kernel:
    alpha = node.attribute("alpha", 1.0)

    def kernel(x: Tensor, scale: Tensor | None = None) -> Tensor:
        return functional.silu(x * (alpha if scale is None else scale))

    return kernel


@operator("BiasSplitGelu", since=1, domain=MICROSOFT)
def _bias_split_gelu(node: Node) -> Kernel:
    """The left half times the GELU of the right one."""

    def kernel(x: Tensor, bias: Tensor) -> Tensor:
        left, right = (x + bias).chunk(2, -1)
        return left * functional.gelu(right)

    return kernel


@operator("BiasAdd", since=1, domain=MICROSOFT)
def _bias_add(node: Node) -> Kernel:
    return lambda x, bias, skip: x + bias + skip


@operator("BiasSoftmax", since=1, domain=MICROSOFT)
def _bias_softmax(node: Node) -> Kernel:
    """The axes from `axis` on count as one; the bias is broadcast as in the addition that was fused."""
    axis = node.attribute("axis", 1)

    def kernel(x: Tensor, bias: Tensor) -> Tensor:
        scores = x + bias
        return torch.softmax(scores.flatten(axis), -1).view(scores.shape)

    return kernel


@operator("BiasDropout", "BitmaskBiasDropout", since=1, domain=MICROSOFT)
def _bias_dropout(node: Node) -> Kernel:
    """dropout(x + bias) + residual. Without `training_mode` nothing is dropped, in training neither."""
    _no_training(node, 4)

    def kernel(x: Tensor, bias: Tensor, residual: Tensor | None = None, *_: Tensor | None) -> Tensor:
        y = x + bias
        return y if residual is None else y + residual

    return _with_mask(node, kernel)


@operator("BitmaskDropout", since=1, domain=MICROSOFT)
def _bitmask_dropout(node: Node) -> Kernel:
    _no_training(node, 2)
    return _with_mask(node, lambda x, *_: x)


def _no_training(node: Node, position: int) -> None:
    mode = node.constants.get(position)
    if node.has_input(position) and (mode is None or bool(mode.any())):
        raise NotSupportedError(f"{node.operator} in training mode", "Export the model in eval mode.")


def _with_mask(node: Node, kernel: Kernel) -> Kernel:
    if len(node.outputs) == 1:
        return kernel
    if node.operator != "BiasDropout":
        raise NotSupportedError("the packed mask of a dropout as an output", "Leave the output away.")

    def both(x: Tensor, *rest: Tensor | None) -> tuple[Tensor, Tensor]:
        y: Tensor = kernel(x, *rest)
        return y, torch.ones_like(y, dtype=torch.bool)

    return both
