"""The first paper's tutorial task: the net falls apart into its two functions (Zhang, Tao, Zhang 2023)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from prune_engine.events import silent
from prune_engine.spec import PruneSpec
from prune_engine.training import train
from tests.prune_engine.training.tasks import CPU, Network, nonzero, tutorial

FULL_BATCH = {"epochs": 7500, "batch_size": 1000}


def inputs_of_outputs(network: Network) -> list[set[int]]:
    """Inputs that each output depends on."""
    values = network.state_values()
    reach = np.eye(4, dtype=bool)
    for name in ("0.weight", "2.weight", "4.weight"):
        reach = (values[name] != 0).astype(int) @ reach.astype(int) > 0
    return [set(np.flatnonzero(row)) for row in reach]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "fields"),
    [(0, FULL_BATCH), (1, FULL_BATCH), (2, FULL_BATCH), (3, {})],
    ids=["seed 0", "seed 1", "seed 2", "seed 3, all auto"],
)
def test_it_ends_with_two_disjoint_sub_networks(seed: int, fields: dict[str, Any]) -> None:
    network, task = tutorial(seed)
    spec = PruneSpec(density=0.1125, loss="mae", seed=seed, **fields)
    train(network, task, spec, CPU, silent)  # type: ignore[arg-type]
    assert nonzero(network) == 18
    assert inputs_of_outputs(network) == [{0, 1}, {2, 3}]
    with torch.no_grad():
        error = float((network(task.holdout.x)[0] - task.holdout.y).abs().mean())
    assert error < 0.3
