"""A training that is kept, goes on and is put back comes to the same bits again, from every phase."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from prune_engine.events import silent
from prune_engine.spec import PruneSpec
from prune_engine.state import State
from prune_engine.training.clock import Clock
from prune_engine.training.run import Run
from prune_engine.training.snapshot import EXCHANGING, FINETUNING, GATES, restore, take
from prune_engine.training.subject import Subject
from tests.prune_engine.training.tasks import CPU, Network, Task, digits, tiny

WHERE = {"gates": 0.2, "exchange": 0.7, "fine-tuning": 0.95}


@pytest.fixture(autouse=True)
def _global_generator() -> Any:
    with torch.random.fork_rng():
        yield


def scarce() -> tuple[Network, Task]:
    """A net with BatchNorm and Dropout of which so little is left that weights are exchanged."""
    _, task = digits()
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Linear(64, 80),
        nn.BatchNorm1d(80),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(80, 40),
        nn.Linear(40, 10),
    )
    return Network(net), task


def begin(network: Network, task: Task, **fields: Any) -> Run:
    torch.manual_seed(0)
    spec = PruneSpec(**fields)
    subject = Subject(network, task, spec, CPU)  # type: ignore[arg-type]
    settings = subject.settings(spec)
    return Run(subject, settings, Clock(settings.total_steps, None), silent)


def go_on(run: Run, until: float = 1.0) -> None:
    """Drive a training through what is left of it, from whatever phase it is in."""
    settings = run.settings
    if run.phase is run.pruning:
        run.advance(min(settings.gates_until, until))
        if until <= settings.gates_until:
            return
        run.close_gates()
    if run.phase.stage == "pruning":
        run.advance(min(settings.gates.fix_mask_at, until))
        if until <= settings.gates.fix_mask_at:
            return
        run.fix()
    run.advance(until)
    if until == 1.0:
        run.finish()


def outcome(run: Run) -> tuple[dict[str, np.ndarray], list[Any], int]:
    values = {name: value.copy() for name, value in run.subject.module.state_values().items()}
    return values, list(run.curve.points), run.clock.step


def assert_same(one: Any, other: Any) -> None:
    for name, value in one[0].items():
        assert np.array_equal(value, other[0][name]), name
    assert one[1] == other[1]
    assert one[2] == other[2]


@pytest.mark.parametrize("where", list(WHERE))
@pytest.mark.parametrize("fields", [{}, {"method": "magnitude"}, {"weight_decay": 0.01}])
def test_going_back_comes_to_the_same_bits(where: str, fields: dict[str, Any]) -> None:
    if where == "exchange" and "method" in fields:
        pytest.skip("magnitude exchanges nothing")
    run = begin(*scarce(), density=0.015, epochs=10, **fields)
    go_on(run, WHERE[where])
    kept = take(run)
    assert kept["phase"] == {"gates": GATES, "exchange": EXCHANGING, "fine-tuning": FINETUNING}[where]
    go_on(run)
    straight = outcome(run)
    restore(run, kept)
    go_on(run)
    assert_same(straight, outcome(run))


@pytest.mark.parametrize("where", list(WHERE))
def test_another_training_of_the_same_goes_on_from_it(where: str) -> None:
    network, task = scarce()
    fresh = copy.deepcopy(network)
    run = begin(network, task, density=0.015, epochs=10)
    go_on(run, WHERE[where])
    kept = take(run)
    go_on(run)
    other = begin(fresh, task, density=0.015, epochs=10)
    restore(other, kept)
    go_on(other)
    assert_same(outcome(run), outcome(other))


def test_a_snapshot_is_plain_and_does_not_change() -> None:
    run = begin(*tiny(), density=0.5, epochs=8)
    go_on(run, 0.2)
    kept = take(run)
    before: State = {
        name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in kept.items()
    }
    go_on(run)
    restore(run, kept)
    go_on(run)
    for name, value in kept.items():
        assert isinstance(value, torch.Tensor | int | float)
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, before[name]) or value.isnan().any()  # type: ignore[arg-type]
        else:
            assert value == before[name]


def test_a_fork_leaves_the_count_of_steps_and_the_curve() -> None:
    run = begin(*tiny(), density=0.5, epochs=8)
    go_on(run, 0.2)
    kept, step = take(run), run.clock.step
    go_on(run)
    points = list(run.curve.points)
    restore(run, kept, rewind=False)
    assert run.clock.step > step
    assert run.curve.points == points
    assert run.phase is run.pruning


def test_logits_take_no_memory_once_the_mask_is_known() -> None:
    run = begin(*tiny(), density=0.5, epochs=8)
    go_on(run, 0.2)
    logits = run.method.gates.logits  # type: ignore[attr-defined]
    kept, before = take(run), logits.clone()
    go_on(run)
    assert logits.untyped_storage().nbytes() == 0
    restore(run, kept)
    assert torch.equal(logits, before)
