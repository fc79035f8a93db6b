"""Schedules over the progress of a training, in [0, 1]: density and learning rate."""

from __future__ import annotations

import math

WARM_UP = 0.3


def log_linear_density(progress: float, target: float, start: float = 1.0) -> float:
    """Density that falls from `start` to `target` by a constant factor a step."""
    return float(start * (target / start) ** min(max(progress, 0.0), 1.0))


def cubic_density(progress: float, target: float, start: float = 1.0) -> float:
    """Density that falls from `start` to `target` fast at first (Zhu & Gupta 2017, equation 1)."""
    return float(target + (start - target) * (1.0 - min(max(progress, 0.0), 1.0)) ** 3)


def one_cycle(progress: float, peak: float, warm_up: float = WARM_UP) -> float:
    """Learning rate: a cosine up from `peak / 25` until `warm_up`, then one down to 0 (Smith 2018)."""
    if progress < warm_up:
        rise = 0.5 - 0.5 * math.cos(math.pi * progress / warm_up)
        return peak * (0.04 + 0.96 * rise)
    fall = 0.5 + 0.5 * math.cos(math.pi * (min(progress, 1.0) - warm_up) / (1.0 - warm_up))
    return peak * max(fall, 1e-4)


def pause(progress: float, start: float, until: float) -> float:
    """Progress of a schedule that stands still from `start` to `until` and still ends at 1.

    Where both are equal it is the progress itself.
    """
    if progress <= start:
        return progress
    return start + max(progress - until, 0.0) * (1.0 - start) / max(1.0 - until, 1e-9)
