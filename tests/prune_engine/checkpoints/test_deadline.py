"""`max_minutes`: wherever time runs out, in whatever attempt, the density is exact and the report says so."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prune_engine.events import StageEvent
from prune_engine.goals import Target
from prune_engine.spec import PruneSpec
from prune_engine.training import Trained
from tests.prune_engine.checkpoints.interrupted import train_interrupted, train_straight
from tests.prune_engine.training.tasks import Network, Task, digits, nonzero

PRUNABLE = 6464


class Watch(Network):
    """Its steps take a second each, but one that takes an hour."""

    def __init__(self, network: Network, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(network.net)
        self.now = Now(at)
        monkeypatch.setattr(time, "monotonic", self.now)

    def forward(self, *inputs: Any) -> Any:
        if self.training:
            self.now.step()
        return super().forward(*inputs)


class Now:
    """Seconds on the clock; copies of a network share it."""

    def __init__(self, at: int) -> None:
        self.at, self.steps, self.seconds = at, 0, 1000.0

    def __call__(self) -> float:
        self.seconds += 1e-6
        return self.seconds

    def step(self) -> None:
        self.steps += 1
        self.seconds += 3600.0 if self.steps == self.at else 1.0

    def __deepcopy__(self, memo: dict[int, Any]) -> Now:
        return self


def assert_exact(results: list[Trained]) -> None:
    for one in results:
        kept = round(one.spec.one_density * PRUNABLE)
        assert nonzero(one.module) == kept  # type: ignore[arg-type]
        assert sum(int(np.count_nonzero(mask)) for mask in one.result.masks.values()) == kept


def digits_at(at: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Network, Task]:
    network, task = digits()
    return Watch(network, at, monkeypatch), task


FIELDS: dict[str, Any] = {"epochs": 6, "batch_size": 140, "learning_rate": 0.003, "max_minutes": 30.0}


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("at", [1, 20, 40, 58], ids=["at once", "gates", "exchange", "fine-tuning"])
def test_a_single_density(at: int, attempts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, task = digits_at(at, monkeypatch)
    spec = PruneSpec(density=0.05, **FIELDS)
    results, _ = train_interrupted(network, task, spec, tmp_path, [at // 3, at // 3][: attempts - 1])
    assert_exact(results)
    assert results[0].result.settings["steps_done"] < 60
    (said,) = results[0].result.warnings
    assert said.startswith(
        f"max_minutes: the training was cut to {results[0].result.settings['steps_done']} of 60"
    )


@pytest.mark.parametrize("attempts", [1, 2])
@pytest.mark.parametrize(("at", "missed"), [(3, 3), (60, 2), (100, 1), (140, 0)])
def test_a_frontier_names_the_stops_that_were_not_reached(
    at: int, missed: int, attempts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, task = digits_at(at, monkeypatch)
    spec = PruneSpec(frontier=(0.5, 0.2, 0.05, 0.02), **FIELDS)
    results, _ = train_interrupted(network, task, spec, tmp_path, [at // 2][: attempts - 1])
    assert_exact(results)
    late = [any("before this density was reached" in said for said in one.result.warnings) for one in results]
    assert late == [False] * (4 - missed) + [True] * missed
    assert "max_minutes: the training was cut" in results[-1].result.warnings[-1]


@pytest.mark.parametrize("attempts", [1, 2])
@pytest.mark.parametrize("at", [2, 30, 60])
def test_a_target_says_that_its_search_was_cut(
    at: int, attempts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, task = digits_at(at, monkeypatch)
    spec = PruneSpec(target=Target(max_accuracy_drop=0.03), **FIELDS)
    results, _ = train_interrupted(network, task, spec, tmp_path, [at - 1][: attempts - 1])
    assert_exact(results)
    assert results[0].target is not None
    assert any("the search for the density was cut" in said for said in results[0].result.warnings)
    assert any("max_minutes: the training was cut" in said for said in results[0].result.warnings)


def test_time_between_attempts_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, task = digits_at(0, monkeypatch)
    spec = PruneSpec(density=0.05, **{**FIELDS, "max_minutes": 1.5})
    (straight,) = train_straight(network, task, spec)
    assert straight.result.warnings == []

    def pass_by(event: Any) -> None:
        if isinstance(event, StageEvent) and event.message.startswith("gumbel to density"):
            network.now.seconds += 1e6  # type: ignore[attr-defined]

    results, number = train_interrupted(network, task, spec, tmp_path, 13, pass_by)
    assert number == 5
    assert results[0].result.warnings == []
