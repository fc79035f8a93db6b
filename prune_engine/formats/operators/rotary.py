"""Rotary position embedding (arXiv:2104.09864): pairs of features are turned by an angle per position."""

from __future__ import annotations

import torch
from torch import Tensor


def rotate(x: Tensor, cos: Tensor, sin: Tensor, size: int, interleaved: bool) -> Tensor:
    """`x` with its first `size` features turned, all of them where `size` is 0.

    Args:
        x: [..., features].
        cos, sin: [..., size / 2], broadcast against `x` but for the last axis.
        interleaved: a pair is two neighbours, else the same place of the two halves.
    """
    size = size or x.shape[-1]
    turned, rest = x[..., :size], x[..., size:]
    a, b = (turned[..., 0::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    pair = a * cos - b * sin, a * sin + b * cos
    turned = torch.stack(pair, -1).flatten(-2) if interleaved else torch.cat(pair, -1)
    return torch.cat([turned, rest], -1) if rest.shape[-1] else turned
