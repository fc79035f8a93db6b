"""The probe: a network that stands the rate keeps it, one that does not gets a smaller one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import repeat

import pytest
import torch
from torch import Tensor

from prune_engine.gates import FlatParameters
from prune_engine.training.objective import Objective
from prune_engine.training.rate_probe import MARGIN, SMALLEST, standing_rate
from tests.prune_engine.training.tasks import CPU, digits


def probe(wanted: float, until: float = math.inf) -> tuple[float, FlatParameters, Tensor]:
    network, task = digits()
    network.train()
    flat = FlatParameters(network.weights, [weight.name for weight in network.prunable], CPU)
    before = flat.shown.clone()
    objective = Objective(network, task, 0.0, 1.0, 0)  # type: ignore[arg-type]
    batches: Iterator[Tensor] = repeat(torch.arange(128))
    return standing_rate(flat, objective, batches, wanted, until), flat, before


def test_a_rate_that_is_stood_is_kept() -> None:
    rate, _, _ = probe(1e-3)
    assert rate == 1e-3


def test_a_rate_that_destroys_is_lowered() -> None:
    rate, _, _ = probe(10.0)
    assert SMALLEST / MARGIN <= rate < 1.0


def test_when_time_is_up_the_largest_rate_tried_is_taken() -> None:
    rate, flat, before = probe(1e-3, until=0.0)
    assert rate == SMALLEST
    assert torch.equal(flat.values, before)


@pytest.mark.parametrize("wanted", [1e-3, 10.0])
def test_the_parameters_are_put_back(wanted: float) -> None:
    _, flat, before = probe(wanted)
    assert torch.equal(flat.values, before)
    assert torch.equal(flat.shown, before)


def test_a_network_that_ignores_its_inputs_has_nothing_to_be_damaged() -> None:
    network, task = digits()
    with torch.no_grad():
        for weight in network.weights.values():
            weight.zero_()
    flat = FlatParameters(network.weights, [weight.name for weight in network.prunable], CPU)
    objective = Objective(network, task, 1.0, 1.0, 0)  # type: ignore[arg-type]
    assert standing_rate(flat, objective, repeat(torch.arange(128)), 1e-3) == 1e-3
