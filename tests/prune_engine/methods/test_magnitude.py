"""Gradual magnitude pruning: the largest weights stay, and the density follows the cubic schedule."""

from __future__ import annotations

import pytest
import torch

from prune_engine.gates import FlatParameters
from prune_engine.methods import Magnitude
from tests.prune_engine.methods.quadratic import CPU, Bowl, run, settings


def test_the_largest_weights_stay() -> None:
    target = torch.randn(50, generator=torch.Generator().manual_seed(0))
    method, _ = run(Magnitude, Bowl(torch.ones(50), target), settings(kept=7, prunable=50))
    mask = method.mask()
    assert int(mask.sum()) == 7
    assert set(mask.nonzero().squeeze(1).tolist()) == set(target.abs().topk(7).indices.tolist())


def test_the_density_follows_zhu_and_gupta() -> None:
    flat = FlatParameters({"w": torch.nn.Parameter(torch.randn(1000))}, ["w"], CPU)
    method = Magnitude(flat, settings(kept=100, prunable=1000, anneal_until=0.5))
    for progress, density in [(0.0, 1.0), (0.25, 0.1 + 0.9 / 8), (0.5, 0.1), (0.9, 0.1)]:
        method.before_forward(progress)
        assert method.density == pytest.approx(density)
        assert float((flat.shown != 0).float().mean()) == pytest.approx(density, abs=1e-3)


def test_what_is_removed_stays_removed() -> None:
    flat = FlatParameters({"w": torch.nn.Parameter(torch.arange(1.0, 11.0))}, ["w"], CPU)
    method = Magnitude(flat, settings(kept=2, prunable=10, anneal_until=1.0))
    method.before_forward(0.5)
    gone = flat.shown == 0
    flat.values[gone] = 100.0
    method.before_forward(0.6)
    assert (flat.shown[gone] == 0).all()
    assert not (method.mask() & gone).any()
