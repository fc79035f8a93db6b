"""The density that is searched for: within the target on rows of its own, or honest that there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from prune_engine.errors import SpecError
from prune_engine.events import silent
from prune_engine.goals import Target
from prune_engine.spec import PruneSpec
from prune_engine.training.result import Trained
from prune_engine.training.target import hold_back, limit_of, train_to_target
from tests.prune_engine.training.tasks import CPU, MemoryRows, Network, Task, digits, nonzero, tiny, tutorial


def run(network: Network, task: Task, target: dict[str, float], **fields: Any) -> Trained:
    spec = PruneSpec(target=Target(**target), **fields)
    return train_to_target(network, task, spec, CPU, silent)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def found() -> tuple[Trained, Task]:
    network, task = digits()
    return run(network, task, {"max_accuracy_drop": 0.03}, epochs=12), task


def test_the_result_is_within_on_the_rows_of_the_search(found: tuple[Trained, Task]) -> None:
    trained, task = found
    target = trained.target
    assert target is not None
    assert target.met
    assert target.limit == pytest.approx(target.dense - 3.0)
    assert target.value >= target.limit
    assert target.density == trained.spec.density
    assert nonzero(trained.module) == round(target.density * 6464)  # type: ignore[arg-type]
    _, searching = hold_back(task, 0)  # type: ignore[arg-type]
    inputs, labels = searching.holdout.batch(slice(0, target.rows))
    with torch.no_grad():
        right = trained.module(*inputs)[0].argmax(1) == labels
    assert 100 * float(right.float().mean()) == pytest.approx(target.value, abs=1e-3)


def test_the_search_brackets_the_answer(found: tuple[Trained, Task]) -> None:
    target = found[0].target
    assert target is not None
    short = [one for one in target.tried if not one.whole]
    assert short[0].density == pytest.approx(0.4)
    passed = min(one.density for one in short if one.within)
    failed = [one.density for one in short if not one.within and one.density < passed]
    assert failed
    assert passed / max(failed) < 2.6
    assert target.tried[-1].whole
    assert target.density < 0.3


def test_the_same_spec_gives_the_same_answer() -> None:
    one, other = (run(*digits(), {"max_accuracy_drop": 0.1}, epochs=3) for _ in range(2))
    assert one.target == other.target
    assert all((one.result.masks[name] == other.result.masks[name]).all() for name in one.result.masks)


def test_a_target_that_nothing_meets_gives_the_best_and_says_so() -> None:
    trained = run(*digits(), {"max_accuracy_drop": 0.0}, epochs=1, learning_rate=0.3)
    assert trained.target is not None
    assert not trained.target.met
    assert trained.target.density == 0.9
    assert any(warning.startswith("target: not met") for warning in trained.result.warnings)


def test_errors_may_grow_by_a_share() -> None:
    trained = run(*tutorial(), {"max_error_increase": 2.0}, epochs=60)
    target = trained.target
    assert target is not None
    assert target.limit == pytest.approx(3.0 * target.dense)
    assert target.met == (target.value <= target.limit)


def test_time_is_kept() -> None:
    trained = run(*digits(), {"max_accuracy_drop": 0.05}, epochs=5000, max_minutes=0.08)
    assert trained.target is not None
    assert sum(trained.result.durations.values()) < 15.0


def test_rows_are_held_back_once_and_for_all() -> None:
    _, task = digits()
    rest, searching = hold_back(task, 0)  # type: ignore[arg-type]
    assert len(rest.train) + len(searching.holdout) == len(task.train)
    assert len(searching.holdout) == 280
    assert rest.holdout is task.holdout
    everything = torch.cat([part.batch(slice(0, 2000))[0][0] for part in (rest.train, searching.holdout)])
    assert torch.equal(everything.sum(0), task.train.x.sum(0)) or torch.allclose(
        everything.double().sum(0), task.train.x.double().sum(0)
    )


@pytest.mark.parametrize(
    ("target", "metric", "higher", "said"),
    [
        ({"max_error_increase": 0.1}, "accuracy", True, "give max_accuracy_drop"),
        ({"max_accuracy_drop": 0.1}, "mae", False, "give max_error_increase"),
    ],
)
def test_a_target_for_another_kind_of_task_is_refused(
    target: dict[str, float], metric: str, higher: bool, said: str
) -> None:
    with pytest.raises(SpecError, match=said) as refused:
        limit_of(Target(**target), metric, higher, 1.0)
    assert refused.value.param == "target"


def test_limits() -> None:
    assert limit_of(Target(max_accuracy_drop=0.01), "accuracy", True, 98.0).worst == pytest.approx(97.0)
    assert limit_of(Target(max_error_increase=0.5), "mse", False, 2.0).worst == pytest.approx(3.0)
    assert limit_of(Target(max_error_increase=0.1), "relative_error", False, 0.0).worst == pytest.approx(0.1)
    assert limit_of(Target(max_accuracy_drop=0.0), "accuracy", True, 98.0).holds(98.0)
    assert not limit_of(Target(max_error_increase=0.0), "mae", False, 1.0).holds(1.001)


def test_a_task_with_one_row_cannot_be_searched() -> None:
    network, task = tiny(rows=1)
    with pytest.raises(SpecError, match="only one"):
        run(network, task, {"max_accuracy_drop": 0.1})


def test_rows_of_their_own_are_searched_on_and_all_others_trained_on() -> None:
    _, task = digits()
    own = MemoryRows(task.holdout.x[:100], task.holdout.y[:100])
    rest, searching = hold_back(replace(task, search=own), 0)  # type: ignore[arg-type]
    assert rest.train is task.train
    assert len(searching.holdout) == 100


def test_a_model_that_knows_the_rows_by_heart_is_told_of() -> None:
    network, task = digits()
    wrong = replace(task, holdout=MemoryRows(task.holdout.x, 9 - task.holdout.y))
    trained = run(network, wrong, {"max_accuracy_drop": 0.05}, epochs=1)
    assert any("by heart" in warning for warning in trained.result.warnings)
    again = run(*digits(), {"max_accuracy_drop": 0.2}, epochs=1)
    assert not any("by heart" in warning for warning in again.result.warnings)
