"""Normalisations that onnxruntime's optimiser fuses with the additions and look-ups before them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators.quantization import MICROSOFT
from prune_engine.formats.operators.table import Kernel, Node, NotSupportedError, operator


@operator("SkipLayerNormalization", since=1, domain=MICROSOFT)
def _skip_layer_normalization(node: Node) -> Kernel:
    """layer_norm(x + skip + bias). The outputs 1 and 2 are of training; the last one is the sum."""
    epsilon, outputs = node.attribute("epsilon", 1e-12), len(node.outputs)

    def kernel(
        x: Tensor, skip: Tensor, gamma: Tensor, beta: Tensor | None = None, bias: Tensor | None = None
    ) -> Any:
        total = x + skip if bias is None else x + skip + bias
        y = functional.layer_norm(total, total.shape[-1:], gamma, beta, epsilon)
        if outputs == 1:
            return y
        var, mean = torch.var_mean(total, -1, correction=0, keepdim=True)
        return (y, mean, (var + epsilon).rsqrt(), total)[:outputs]

    return kernel


@operator("SkipSimplifiedLayerNormalization", since=1, domain=MICROSOFT)
def _skip_simplified_layer_normalization(node: Node) -> Kernel:
    """The same with the root mean square in place of mean and variance."""
    epsilon, outputs = node.attribute("epsilon", 1e-12), len(node.outputs)

    def kernel(x: Tensor, skip: Tensor, gamma: Tensor, bias: Tensor | None = None) -> Any:
        total = x + skip if bias is None else x + skip + bias
        y = functional.rms_norm(total, total.shape[-1:], gamma, epsilon)
        if outputs == 1:
            return y
        mean = total.mean(-1, keepdim=True)
        return (y, mean, _inverse_root(total, -1, epsilon), total)[:outputs]

    return kernel


@operator("SimplifiedLayerNormalization", since=1)
def _simplified_layer_normalization(node: Node) -> Kernel:
    """x / root mean square * scale; onnxruntime's own, though it lists it in ONNX's domain."""
    axis, epsilon = node.attribute("axis", -1), node.attribute("epsilon", 1e-5)
    outputs = len(node.outputs)

    def kernel(x: Tensor, scale: Tensor) -> Any:
        y = functional.rms_norm(x, x.shape[axis:], None, epsilon) * scale
        return y if outputs == 1 else (y, _inverse_root(x, axis, epsilon))[:outputs]

    return kernel


def _inverse_root(x: Tensor, axis: int, epsilon: float) -> Tensor:
    axes = list(range(axis % x.dim(), x.dim()))
    return (x.square().mean(axes, keepdim=True) + epsilon).rsqrt()


@operator("GatedRMSNorm", since=1, domain=MICROSOFT)
def _gated_rms_norm(node: Node) -> Kernel:
    """Every group of as many values as `scale` has is normalised on its own, then gated."""
    epsilon = node.attribute("epsilon", 1e-5)
    gate_function = torch.sigmoid if node.attribute("activation", "silu") == "sigmoid" else functional.silu

    def kernel(x: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
        groups = x.reshape(-1, scale.shape[0])
        return functional.rms_norm(groups, scale.shape, scale, epsilon).view(x.shape) * gate_function(gate)

    return kernel


@operator("GroupNorm", since=1, domain=MICROSOFT)
def _group_norm(node: Node) -> Kernel:
    normalise = _group_normaliser(node)
    return lambda x, gamma, beta: normalise(x, gamma, beta)


@operator("SkipGroupNorm", since=1, domain=MICROSOFT)
def _skip_group_norm(node: Node) -> Kernel:
    """Group norm of x + skip + bias; a skip of [batch, channels] counts at every place."""
    normalise, outputs = _group_normaliser(node), len(node.outputs)

    def kernel(x: Tensor, gamma: Tensor, beta: Tensor, skip: Tensor, bias: Tensor | None = None) -> Any:
        total = x + (skip.view(skip.shape[0], 1, 1, -1) if skip.dim() == 2 else skip)
        total = total if bias is None else total + bias
        y = normalise(total, gamma, beta)
        return y if outputs == 1 else (y, total)

    if not node.attribute("channels_last", 1):
        raise NotSupportedError("SkipGroupNorm with channels_last=0", "")
    return kernel


def _group_normaliser(node: Node) -> Kernel:
    groups, epsilon = node.attribute("groups"), node.attribute("epsilon", 1e-5)
    smooth, last = bool(node.attribute("activation", 0)), bool(node.attribute("channels_last", 1))

    def kernel(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        x = x.movedim(-1, 1) if last else x
        y = functional.group_norm(x, groups, gamma, beta, epsilon)
        y = functional.silu(y) if smooth else y
        return y.movedim(1, -1) if last else y

    return kernel


@operator("EmbedLayerNormalization", since=1, domain=MICROSOFT)
def _embed_layer_normalization(node: Node) -> Kernel:
    """The sum of word, position and segment embeddings, normalised; also how many words each row has."""
    epsilon, outputs = node.attribute("epsilon", 1e-12), len(node.outputs)

    def kernel(
        ids: Tensor,
        segments: Tensor | None,
        words: Tensor,
        positions: Tensor,
        segment_table: Tensor | None,
        gamma: Tensor,
        beta: Tensor,
        mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Any:
        place = (
            positions[: ids.shape[1]]
            if position_ids is None
            else functional.embedding(position_ids, positions)
        )
        total = functional.embedding(ids, words) + place
        if segments is not None and segment_table is not None:
            total = total + functional.embedding(segments, segment_table)
        y = functional.layer_norm(total, total.shape[-1:], gamma, beta, epsilon)
        if outputs == 1:
            return y
        counts = ids.new_zeros(ids.shape[0]) if mask is None else mask.sum(1)
        return (y, counts.to(torch.int32), total)[:outputs]

    return kernel
