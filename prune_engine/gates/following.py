"""The shift of all logits that holds the density, where it is known to be small: Newton's method."""

from __future__ import annotations

import torch
from torch import Tensor

from prune_engine.gates.budget import sampled

ITERATIONS = 6
LARGEST_STEP = 4.0
"""In units of the noise; a step beyond it leaves the neighbourhood where the slope says where to go."""
LAST_STEP = 0.05
"""A step below it is the last one: the next would be of the order of its square."""


def followed_shift(logits: Tensor, density: float, noise: float) -> float | None:
    """The shift whose expected density is `density`, to a thousandth of the noise; None: it is not near.

    A tenth of the work of a bisection. Looks at the outcome on the host: for CPUs. Beyond 2^20 logits a
    strided sample stands for all.

    Args:
        logits: flat.
        density: in (0, 1).
        noise: scale of the logistic noise, > 0.
    """
    logits = sampled(logits)
    scaled, count = logits / noise, logits.numel()
    open_chance = torch.empty_like(scaled)
    shift = 0.0
    for _ in range(ITERATIONS):
        torch.add(scaled, shift, out=open_chance).sigmoid_()
        mean = float(open_chance.mean())
        slope = mean - float(torch.dot(open_chance, open_chance)) / count
        step = (density - mean) / max(slope, 1e-12)
        if not abs(step) < LARGEST_STEP:
            return None
        shift += step
        if abs(step) < LAST_STEP:
            return shift * noise
    return None
