"""Convolutions and pooling that onnxruntime fuses or turns to channels-last, and its own variants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from prune_engine.formats.operators import convolution, pooling  # noqa: F401  # their rows are looked up
from prune_engine.formats.operators.contrib_activation import fused_activation
from prune_engine.formats.operators.quantization import MICROSOFT
from prune_engine.formats.operators.table import NEWEST_OPSET, Kernel, Node, find, operator


def _build(name: str, node: Node) -> Kernel:
    """The kernel of ONNX's own operator with the node's attributes."""
    row = find("", name, NEWEST_OPSET)
    assert row is not None  # noqa: S101  # registered by the imports above
    return row.build(node)


def _channels_first(x: Tensor) -> Tensor:
    return x.movedim(-1, 1)


def _channels_last(x: Tensor) -> Tensor:
    return x.movedim(1, -1)


def _fused(node: Node) -> Kernel:
    """activation(conv(x) + z); `activation_params` are the function's numbers in order."""
    given = node.attribute("activation_params") or []
    numbers = dict(zip(("alpha", "beta"), given, strict=False))
    convolve, activate = _build("Conv", node), fused_activation(node, numbers)

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None, z: Tensor | None = None) -> Tensor:
        y = convolve(x, weight, bias)
        result: Tensor = activate(y if z is None else y + z)
        return result

    return kernel


@operator("FusedConv", since=1, domain=MICROSOFT)
def _fused_conv(node: Node) -> Kernel:
    return _fused(node)


@operator("NhwcConv", "NhwcFusedConv", since=1, domain=MICROSOFT)
def _nhwc_conv(node: Node) -> Kernel:
    """Inputs and outputs have their channels last, the weight is [out, in / group, ...] as ever."""
    convolve = _fused(node)

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None, z: Tensor | None = None) -> Tensor:
        y: Tensor = convolve(_channels_first(x), weight, bias, None if z is None else _channels_first(z))
        return _channels_last(y)

    return kernel


@operator("NhwcMaxPool", since=1, domain=MICROSOFT)
def _nhwc_max_pool(node: Node) -> Kernel:
    pool = _build("MaxPool", node)

    def kernel(x: Tensor) -> Tensor:
        y = pool(_channels_first(x if x.is_floating_point() else x.float()))
        return _channels_last(y).to(x.dtype)

    return kernel


@operator("ConvTransposeWithDynamicPads", since=1, domain=MICROSOFT, host=(2,))
def _conv_transpose_with_dynamic_pads(node: Node) -> Kernel:
    """The pads are an input; one kernel is built for each that comes along."""
    built: dict[tuple[int, ...], Kernel] = {}

    def kernel(
        x: Tensor, weight: Tensor, pads: Sequence[int] | None = None, bias: Tensor | None = None
    ) -> Tensor:
        key = tuple(pads or ())
        if key not in built:
            attributes = {**node.attributes, "pads": list(key)} if key else node.attributes
            built[key] = _build("ConvTranspose", replace(node, attributes=attributes))
        y: Tensor = built[key](x, weight, bias)
        return y

    return kernel


@operator("Unique", since=1, domain=MICROSOFT)
def _unique(node: Node) -> Kernel:
    """The values of a vector in the order of their first occurrence, where each went, and how often."""

    def kernel(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
        place = torch.arange(x.numel(), device=x.device)
        first = place.new_full(values.shape, x.numel()).scatter_reduce(0, inverse, place, "amin")
        order = first.argsort()
        return values[order], order.argsort()[inverse], counts[order]

    return kernel
