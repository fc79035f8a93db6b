"""The gumbel method on problems whose optimum is known in closed form."""

from __future__ import annotations

import pytest
import torch

from prune_engine.gates import FlatParameters, expected_density
from prune_engine.methods import Gumbel
from tests.prune_engine.methods.quadratic import CPU, Bowl, run, settings


def bowl_where_magnitude_is_wrong() -> Bowl:
    """The largest weights matter least: curvature falls faster than the square of the weight rises."""
    target = torch.linspace(0.5, 2.0, 40)
    return Bowl(curvature=4.0 / target**4, target=target)


def test_it_finds_the_best_mask_where_magnitude_would_keep_the_worst() -> None:
    bowl = bowl_where_magnitude_is_wrong()
    # A large epsilon, since the steps of Adam alone do not tell how much a gate matters.
    chosen = settings(kept=10, prunable=40, gate_epsilon=1.0, gate_learning_rate=1.0)
    method, _ = run(Gumbel, bowl, chosen)
    importance = bowl.curvature * bowl.target**2
    kept = method.mask()
    assert int(kept.sum()) == 10
    assert float(importance[kept].sum()) > 0.95 * float(importance.topk(10).values.sum())


def test_the_expected_density_is_on_its_schedule() -> None:
    method, flat = run(Gumbel, bowl_where_magnitude_is_wrong(), settings(kept=4, prunable=40), steps=400)
    assert isinstance(method, Gumbel)
    assert method.density == pytest.approx(0.1)
    assert float(expected_density(method.gates.logits, 0.0, 1.0)) == pytest.approx(0.1, rel=0.2)
    assert flat.values.isfinite().all()


def test_gates_start_open() -> None:
    flat = FlatParameters({"w": torch.nn.Parameter(torch.randn(20_000))}, ["w"], CPU)
    before = flat.shown.clone()
    method = Gumbel(flat, settings(kept=200, prunable=20_000))
    method.before_forward(0.0)
    assert float((flat.shown == before).float().mean()) > 0.98


def test_the_same_seed_gives_the_same_logits() -> None:
    one, _ = run(Gumbel, bowl_where_magnitude_is_wrong(), settings(kept=10, prunable=40), steps=50)
    other, _ = run(Gumbel, bowl_where_magnitude_is_wrong(), settings(kept=10, prunable=40), steps=50)
    assert isinstance(one, Gumbel)
    assert isinstance(other, Gumbel)
    assert torch.equal(one.gates.logits, other.gates.logits)
