"""ONNX's Attention and RotaryEmbedding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators.rotary import rotate
from prune_engine.formats.operators.scaled_dot_product import (
    attend,
    attend_with_scores,
    combined_mask,
    merge_heads,
    positions_allowed,
    split_heads,
)
from prune_engine.formats.operators.table import Kernel, Node, operator


@operator("Attention", since=23)
def _attention(node: Node) -> Kernel:
    """`nonpad_kv_seqlen` came with opset 24, the window sizes with 25.

    Without a soft cap and the scores as an output it is torch's own attention.
    """
    query_heads, key_heads = node.attribute("q_num_heads"), node.attribute("kv_num_heads")
    scale, softcap = node.attribute("scale"), node.attribute("softcap", 0.0)
    causal, mode = bool(node.attribute("is_causal", 0)), node.attribute("qk_matmul_output_mode", 0)
    left, right = node.attribute("left_window_size", -1), node.attribute("right_window_size", -1)
    outputs, wants_scores = len(node.outputs), node.has_output(3)

    def kernel(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        past_key: Tensor | None = None,
        past_value: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> Any:
        flat = q.dim() == 3
        if flat:
            q, k, v = split_heads(q, query_heads), split_heads(k, key_heads), split_heads(v, key_heads)
        offset: int | Tensor = 0
        if past_key is not None and past_value is not None:
            offset = past_key.shape[2]
            k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
        elif lengths is not None:
            offset = lengths - q.shape[2]
        keys = k.shape[2]
        if mask is not None and mask.shape[-1] < keys:
            missing = False if mask.dtype is torch.bool else -torch.inf
            mask = functional.pad(mask, (0, keys - mask.shape[-1]), value=missing)
        plain = mask is None and lengths is None and left < 0 and right < 0 and offset == 0
        scored = wants_scores or softcap
        if not (plain and causal and not scored):
            allowed = positions_allowed(
                q.shape[2], keys, offset, q.device, causal=causal, left=left, right=right
            )
            mask = combined_mask(mask, allowed)
            if lengths is not None:
                mask = combined_mask(mask, torch.arange(keys, device=q.device) < lengths.view(-1, 1, 1, 1))
        if scored:
            y, scores = attend_with_scores(q, k, v, mask, scale=scale, softcap=softcap)
        else:
            y, scores = attend(q, k, v, mask, scale=scale, causal=causal and mask is None), None
        y = merge_heads(y) if flat else y
        if outputs == 1:
            return y
        return (y, k, v, scores[mode] if scores else None)[:outputs]

    return kernel


@operator("RotaryEmbedding", since=23)
def _rotary_embedding(node: Node) -> Kernel:
    """The tables are [positions, half], looked up by `position_ids`, or already [batch, length, half]."""
    heads, size = node.attribute("num_heads", 0), node.attribute("rotary_embedding_dim", 0)
    interleaved = bool(node.attribute("interleaved", 0))

    def kernel(x: Tensor, cos: Tensor, sin: Tensor, position_ids: Tensor | None = None) -> Tensor:
        if position_ids is not None:
            cos, sin = cos[position_ids], sin[position_ids]
        if x.dim() == 4:
            return rotate(x, cos.unsqueeze(1), sin.unsqueeze(1), size, interleaved)
        split = x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)
        return rotate(split, cos.unsqueeze(2), sin.unsqueeze(2), size, interleaved).flatten(2)

    return kernel
