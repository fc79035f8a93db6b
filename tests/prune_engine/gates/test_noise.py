"""The noise bank: standard logistic, repeatable, never the same twice in a row."""

from __future__ import annotations

import math

import pytest
import torch

from prune_engine.gates import LogisticBank

CPU = torch.device("cpu")


def test_samples_are_logistic() -> None:
    draw = LogisticBank(200_000, 1.0, 0, CPU).draw()
    assert float(draw.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(draw.std()) == pytest.approx(math.pi / math.sqrt(3.0), rel=0.01)
    assert float((draw < 1.0).float().mean()) == pytest.approx(1 / (1 + math.exp(-1)), abs=0.005)


def test_the_scale_multiplies() -> None:
    assert torch.equal(LogisticBank(10, 0.5, 3, CPU).draw(), LogisticBank(10, 1.0, 3, CPU).draw() * 0.5)


def test_the_same_seed_draws_the_same() -> None:
    one, other = LogisticBank(100, 1.0, 7, CPU), LogisticBank(100, 1.0, 7, CPU)
    for _ in range(5):
        assert torch.equal(one.draw(), other.draw())


def test_draws_differ() -> None:
    bank = LogisticBank(1000, 1.0, 0, CPU)
    assert not torch.equal(bank.draw(), bank.draw())
