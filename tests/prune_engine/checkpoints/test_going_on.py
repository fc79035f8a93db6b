"""A training that is interrupted, wherever and as often as it is, ends with the bits of any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prune_engine.events import WarningEvent
from prune_engine.goals import Target
from prune_engine.report import Metric
from prune_engine.spec import PruneSpec
from prune_engine.training import recovery
from tests.prune_engine.checkpoints.interrupted import assert_same, train_interrupted, train_straight
from tests.prune_engine.training.tasks import CPU, MemoryRows, Network, Task, digits, tiny
from tests.prune_engine.training.test_snapshot import scarce

STEPS = {"density": 0.015, "epochs": 6, "batch_size": 140}
"""60 steps: gates until 30, weights exchanged until 54, then fine-tuning."""


@pytest.mark.parametrize("steps", [[1], [17], [30], [31], [44], [54], [55], [60], [20, 15, 9, 12]])
def test_a_single_density_wherever_it_is_interrupted(steps: list[int], tmp_path: Path) -> None:
    network, task = scarce()
    spec = PruneSpec(**STEPS)
    results, number = train_interrupted(network, task, spec, tmp_path, steps)
    assert number == len(steps) + 1
    assert_same(train_straight(network, task, spec), results)


@pytest.mark.parametrize(
    "fields",
    [
        {"density": 0.1, "method": "magnitude"},
        {"density": 0.5, "granularity": "2:4"},
        {"density": 0.2, "granularity": "4x1"},
        {"density": 0.3, "train_weights": False},
        {"density": 0.2, "weight_decay": 0.01, "learning_rate": 0.003},
        {"frontier": (1.0, 0.4, 0.1, 0.02)},
        {"frontier": (0.5, 0.1), "method": "magnitude"},
        {"target": Target(max_accuracy_drop=0.05)},
        {"target": Target(max_accuracy_drop=0.0)},
    ],
    ids=lambda fields: "-".join(f"{name}={value}" for name, value in fields.items()),
)
def test_every_kind_of_job_interrupted_again_and_again(fields: dict[str, Any], tmp_path: Path) -> None:
    network, task = digits()
    spec = PruneSpec(**{"epochs": 3, "batch_size": 140, **fields})
    straight = train_straight(network, task, spec)
    results, number = train_interrupted(network, task, spec, tmp_path, 13)
    assert number > 2
    assert_same(straight, results)


def test_from_fresh_weights(tmp_path: Path) -> None:
    network, task = digits()
    start = {name: np.full_like(value, 0.01) for name, value in network.state_values().items()}
    spec = PruneSpec(density=0.2, epochs=3, batch_size=140, init="random")
    results, _ = train_interrupted(network, task, spec, tmp_path, 11, start=start)
    assert_same(train_straight(network, task, spec, start), results)


def convolutions() -> tuple[Network, Task]:
    """A net of convolutions with BatchNorm and Dropout, with a few rows."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout2d(0.2),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(72, 10),
    )
    _, task = digits()
    images = [rows.x.reshape(-1, 1, 8, 8) for rows in (task.train, task.holdout)]
    train, holdout = (
        MemoryRows(x[:300], rows.y[:300]) for x, rows in zip(images, (task.train, task.holdout), strict=True)
    )
    metric = Metric(name="accuracy", unit="%", higher_is_better=True)
    return Network(net), Task("classification", "cross_entropy", metric, train, holdout)


@pytest.mark.parametrize("fields", [{"density": 0.1}, {"frontier": (0.4, 0.1)}], ids=["single", "frontier"])
def test_batch_norm_and_dropout_go_on_where_they_were(fields: dict[str, Any], tmp_path: Path) -> None:
    network, task = convolutions()
    spec = PruneSpec(epochs=4, batch_size=50, **fields)
    results, _ = train_interrupted(network, task, spec, tmp_path, 7)
    assert_same(train_straight(network, task, spec), results)


class Count:
    """Of the training steps of all attempts: copies of a network share it."""

    def __init__(self) -> None:
        self.steps = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Count:
        return self


class Hiccup(Network):
    """Gives NaN in one of its training steps."""

    def __init__(self, net: nn.Sequential, at: int) -> None:
        super().__init__(net)
        self.at, self.count = at, Count()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self.count.steps += self.training
        (output,) = super().forward(*inputs)
        return (output * float("nan"),) if self.training and self.count.steps == self.at else (output,)


@pytest.mark.parametrize("large", [False, True], ids=["snapshots in memory", "snapshots in files"])
def test_a_step_back_is_the_same_after_an_interruption(
    large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss turns NaN at step 50; the snapshot that is gone back to is older than the checkpoint."""
    if large:
        monkeypatch.setattr(recovery, "IN_MEMORY", 0)
    network, task = digits()
    spec = PruneSpec(density=0.1, epochs=8, batch_size=140, learning_rate=0.01, distillation=0.0)
    straight = train_straight(Hiccup(network.net, 50), task, spec)
    assert len(straight[0].result.warnings) == 1
    results, _ = train_interrupted(Hiccup(network.net, 50), task, spec, tmp_path, [49])
    assert_same(straight, results)


def test_a_rate_that_was_halved_stays_halved(tmp_path: Path) -> None:
    network, task = digits()
    spec = PruneSpec(density=0.1, epochs=8, batch_size=140, learning_rate=0.01, distillation=0.0)
    heard: list[Any] = []
    straight = train_straight(Hiccup(network.net, 20), task, spec)
    results, _ = train_interrupted(Hiccup(network.net, 20), task, spec, tmp_path, [22, 15], heard.append)
    assert_same(straight, results)
    assert results[0].result.settings["learning_rate"] == 0.005
    assert len([event for event in heard if isinstance(event, WarningEvent)]) == 1


def test_a_learning_rate_that_was_found_is_not_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prune_engine.training import run

    looked = []
    monkeypatch.setattr(run, "standing_rate", lambda *_: looked.append(1) or 0.00037)
    network, task = tiny()
    spec = PruneSpec(density=0.5, epochs=10, batch_size=8)
    results, number = train_interrupted(network, task, spec, tmp_path, 9)
    assert (looked, number) == ([1], 6)
    assert results[0].result.settings["learning_rate"] == 0.00037
    assert "does not stand" in results[0].result.settings["learning_rate_why"]


def test_it_takes_as_long_as_all_attempts_together(tmp_path: Path) -> None:
    network, task = digits()
    spec = PruneSpec(density=0.1, epochs=2, batch_size=140, device=str(CPU))
    results, _ = train_interrupted(network, task, spec, tmp_path, 5)
    straight = train_straight(network, task, spec)
    assert results[0].result.durations["pruning"] > straight[0].result.durations["pruning"] / 3
