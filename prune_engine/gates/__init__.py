"""Gates and the density budget: what decides which weights are kept, and how many."""

from __future__ import annotations

from prune_engine.gates.budget import (
    density_shift,
    exact_mask,
    expected_density,
    kept_count,
)
from prune_engine.gates.flat import FlatParameters
from prune_engine.gates.logistic import LogisticGates
from prune_engine.gates.noise import LogisticBank

__all__ = [
    "FlatParameters",
    "LogisticBank",
    "LogisticGates",
    "density_shift",
    "exact_mask",
    "expected_density",
    "kept_count",
]
