"""Gates and the density budget: what decides which weights are kept, and how many."""

from __future__ import annotations

from prune_engine.gates.adam import ChunkedAdam
from prune_engine.gates.blocks import BlockGates
from prune_engine.gates.bounds import budgeted_mask, hold_within, most_kept
from prune_engine.gates.budget import (
    density_shift,
    exact_mask,
    expected_density,
    kept_count,
)
from prune_engine.gates.choosing import Gates, build_gates
from prune_engine.gates.fitting import fits
from prune_engine.gates.flat import FlatParameters
from prune_engine.gates.groups import GroupGates, largest
from prune_engine.gates.layout import Layout, lay_out, single_weights
from prune_engine.gates.logistic import LogisticGates
from prune_engine.gates.noise import LogisticBank
from prune_engine.gates.units import Units, unit_view

__all__ = [
    "BlockGates",
    "ChunkedAdam",
    "FlatParameters",
    "Gates",
    "GroupGates",
    "Layout",
    "LogisticBank",
    "LogisticGates",
    "Units",
    "budgeted_mask",
    "build_gates",
    "density_shift",
    "exact_mask",
    "expected_density",
    "fits",
    "hold_within",
    "kept_count",
    "largest",
    "lay_out",
    "most_kept",
    "single_weights",
    "unit_view",
]
