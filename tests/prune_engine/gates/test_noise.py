"""The noise bank: standard logistic, repeatable, never the same twice in a row."""

from __future__ import annotations

import math

import pytest
import torch

from prune_engine.gates import LogisticBank
from prune_engine.gates.noise import SEGMENT, SPARE

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


def test_a_long_draw_takes_no_longer_bank() -> None:
    bank = LogisticBank(3 * SEGMENT, 1.0, 0, CPU)
    draw = bank.draw()
    assert len(draw) == 3 * SEGMENT
    assert bank._samples.numel() == SEGMENT + SPARE
    assert not torch.equal(draw[:SEGMENT], draw[SEGMENT : 2 * SEGMENT])


def test_pieces_are_parts_of_the_draw_however_they_are_cut() -> None:
    bank = LogisticBank(2 * SEGMENT + 5, 1.0, 0, CPU)
    draw = bank.draw()
    for place in (slice(0, 10), slice(SEGMENT - 3, SEGMENT + 4), slice(7, 2 * SEGMENT + 5)):
        assert torch.equal(bank.piece(place), draw[place])
