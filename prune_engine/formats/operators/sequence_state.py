"""Operators of sequence models with a state: caches, linear attention, causal convolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators.quantization import MICROSOFT
from prune_engine.formats.operators.scaled_dot_product import merge_heads, split_heads
from prune_engine.formats.operators.table import Kernel, Node, NotSupportedError, operator


@operator("TensorScatter", since=24)
def _tensor_scatter(node: Node) -> Kernel:
    """Writes the update into the cache from `write_indices` on, around the end where the mode is circular."""
    circular, axis = node.attribute("mode", "linear") == "circular", node.attribute("axis", -2)

    def kernel(cache: Tensor, update: Tensor, starts: Tensor | None = None) -> Tensor:
        along = axis % cache.dim()
        view = [1] * cache.dim()
        view[along] = -1
        place = torch.arange(update.shape[along], device=cache.device).view(view)
        if starts is not None:
            place = place + starts.long().view([-1] + [1] * (cache.dim() - 1))
        if circular:
            place = place % cache.shape[along]
        return cache.scatter(along, place.expand_as(update), update)

    return kernel


def _refuse_windows(node: Node) -> None:
    if node.attribute("state_window", 0):
        raise NotSupportedError(f"state_window of {node.operator}", "Export it with the last state alone.")


@operator("LinearAttention", since=27)
@operator("LinearAttention", since=1, domain=MICROSOFT)
def _linear_attention(node: Node) -> Kernel:
    """State S += k (x) v after an optional decay exp(g), read as q S.

    With the delta rule what is written is beta * (v - k S), the part that the state does not hold yet.

    Raises:
        NotSupportedError: more key heads than query heads, or several states as an output (com.microsoft).
    """
    _refuse_windows(node)
    query_heads, key_heads = node.attribute("q_num_heads"), node.attribute("kv_num_heads")
    if query_heads < key_heads:
        raise NotSupportedError("more key heads than query heads", "Repeat the query heads before it.")
    given_scale = node.attribute("scale", 0.0)
    corrects = "delta" in node.attribute("update_rule", "gated_delta")
    outputs = len(node.outputs)

    def kernel(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        state: Tensor | None = None,
        decay: Tensor | None = None,
        beta: Tensor | None = None,
    ) -> Any:
        q = split_heads(query, query_heads)
        k, v = split_heads(key, key_heads), split_heads(value, key_heads)
        scale = given_scale or q.shape[-1] ** -0.5
        keep = None if decay is None else split_heads(decay, key_heads).exp().unsqueeze(-1)
        rate = None if beta is None else split_heads(beta, beta.shape[-1])
        if state is None:
            state = q.new_zeros((q.shape[0], key_heads, k.shape[-1], v.shape[-1]))
        read = []
        for time in range(q.shape[2]):
            k_now, written = k[:, :, time], v[:, :, time]
            if keep is not None:
                state = state * keep[:, :, time]
            if corrects and rate is not None:
                held = (k_now.unsqueeze(-2) @ state).squeeze(-2)
                written = rate[:, :, time] * (written - held)
            state = state + k_now.unsqueeze(-1) * written.unsqueeze(-2)
            # each key head serves a group of consecutive query heads
            q_now = q[:, :, time].reshape(q.shape[0], key_heads, q.shape[1] // key_heads, q.shape[-1])
            read.append((q_now @ state).flatten(1, 2))
        y = torch.stack(read, 2) if read else q.new_zeros((*q.shape[:3], v.shape[-1]))
        y = merge_heads(y * scale)
        return y if outputs == 1 else (y, state)

    return kernel


@operator("CausalConvWithState", since=27)
@operator("CausalConvWithState", since=1, domain=MICROSOFT)
def _causal_convolution(node: Node) -> Kernel:
    """A depthwise convolution over the past; the state is the last inputs that the kernel still reaches.

    Raises:
        NotSupportedError: more than one axis, channels last, or several states as an output (com.microsoft).
    """
    _refuse_windows(node)
    if node.attribute("ndim", 1) != 1 or node.attribute("channels_last", 0):
        raise NotSupportedError(
            "another layout than [batch, channels, length]", "Transpose before and after."
        )
    dilation = node.attribute("dilation", 1)
    smooth, outputs = node.attribute("activation", "none") in ("silu", "swish"), len(node.outputs)

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None, state: Tensor | None = None) -> Any:
        reach = (weight.shape[-1] - 1) * dilation
        whole = functional.pad(x, (reach, 0)) if state is None else torch.cat([state, x], -1)
        y = functional.conv1d(whole, weight, bias, dilation=dilation, groups=weight.shape[0])
        y = functional.silu(y) if smooth else y
        return y if outputs == 1 else (y, whole[..., whole.shape[-1] - reach :])

    return kernel
