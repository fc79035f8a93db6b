"""softmax(scale * q k^T + bias) v: the one computation behind every attention operator.

q is [batch, heads, length, size], k and v are [batch, key heads, keys, size]; where there are fewer key
heads, each serves a group of consecutive query heads (arXiv:2305.13245).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def positions_allowed(
    length: int,
    keys: int,
    offset: int | Tensor,
    device: torch.device,
    *,
    causal: bool = False,
    left: int = -1,
    right: int = -1,
) -> Tensor | None:
    """Which keys each query may see, [length, keys] or, with an offset per row, [batch, 1, length, keys].

    The query i stands at the position i + offset. `left` and `right` bound how far away a key may be, -1 is
    no bound. None where every key is allowed.
    """
    if causal:
        right = 0 if right < 0 else min(right, 0)
    if left < 0 and right < 0:
        return None
    row = torch.arange(length, device=device).unsqueeze(1)
    row = row + (offset.view(-1, 1, 1, 1) if isinstance(offset, Tensor) else offset)
    ahead = torch.arange(keys, device=device) - row
    if left < 0:
        return ahead <= right
    return ahead >= -left if right < 0 else (ahead >= -left) & (ahead <= right)


def combined_mask(mask: Tensor | None, allowed: Tensor | None) -> Tensor | None:
    """A mask (bool: what is allowed; float: what is added) and what is allowed besides, as one mask."""
    if mask is None or allowed is None:
        return allowed if mask is None else mask
    return mask & allowed if mask.dtype is torch.bool else torch.where(allowed, mask, -math.inf)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    scale: float | None = None,
    causal: bool = False,
) -> Tensor:
    """The attention's output [batch, heads, length, v's size]; a query that may see no key gets zeros.

    Args:
        mask: bool (True is allowed) or float (added), broadcast to [batch, heads, length, keys].
        scale: of q k^T; the inverse root of q's size where it is None.
        causal: query i sees the keys 0 to i; only without a mask.
    """
    if mask is not None and mask.dim() < 2:
        mask = mask.expand(q.shape[2], k.shape[2])
    output: Tensor = functional.scaled_dot_product_attention(
        q, k, v, mask, 0.0, causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return output


def attend_with_scores(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    scale: float | None = None,
    softcap: float = 0.0,
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """The output, and the scores [batch, heads, length, keys] as they were on the way.

    These are: q k^T scaled, the same capped (softcap * tanh(scores / softcap)), with the mask, and after the
    softmax.
    """
    repeats = q.shape[1] // k.shape[1]
    if repeats > 1:
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
    raw = q @ k.transpose(-1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    capped = softcap * torch.tanh(raw / softcap) if softcap else raw
    if mask is None:
        masked, weights = capped, torch.softmax(capped, -1)
    else:
        added = torch.where(mask, 0.0, -math.inf) if mask.dtype is torch.bool else mask
        masked = capped + added
        blind = (added == -math.inf).all(-1, keepdim=True)  # its softmax and derivative would be NaN
        weights = torch.where(blind, 0.0, torch.softmax(torch.where(blind, 0.0, masked), -1))
    return weights @ v, (raw, capped, masked, weights)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[batch, length, heads * size] -> [batch, heads, length, size]."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[batch, heads, length, size] -> [batch, length, heads * size]."""
    return x.transpose(1, 2).flatten(2)
