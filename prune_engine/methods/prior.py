"""Where gate logits start: an order of the weights by how much their layer would miss them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def prior_logits(layers: Sequence[Tensor], strength: float) -> Tensor:
    """Logits to start from, flat: `strength` times the standardised log of the LAMP scores; 0: all equal."""
    if strength == 0.0:
        return torch.cat([torch.zeros_like(layer.reshape(-1)) for layer in layers])
    logs = torch.cat([lamp_scores(layer.reshape(-1)).clamp_min(1e-24).log() for layer in layers])
    return (logs - logs.mean()) / logs.std(unbiased=False).clamp_min(1e-12) * strength


def lamp_scores(weights: Tensor) -> Tensor:
    """Squared weight over the squares of all weights of the layer that are at least as large, in (0, 1].

    Layer-adaptive magnitude (Lee et al. 2021, arXiv 2010.07611, equation 4): comparable between layers whose
    weights are of different size, as they are where BatchNorm was folded into convolutions.
    """
    squares, order = weights.square().sort(stable=True)
    rest = squares.flip(0).cumsum(0).flip(0).clamp_min(torch.finfo(weights.dtype).tiny)
    return torch.empty_like(squares).scatter_(0, order, squares / rest)
