"""Several densities from one training run: each exact, each with a module of its own, the same bits again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from prune_engine.errors import SpecError
from prune_engine.events import Listener, ProgressEvent, silent
from prune_engine.spec import PruneSpec
from prune_engine.training.frontier import legs, total_steps, train_frontier
from prune_engine.training.result import Trained
from prune_engine.training.subject import Subject
from tests.prune_engine.training.tasks import CPU, Network, Task, digits, nonzero, tiny

STOPS = (0.5, 0.2, 0.1)


def run(network: Network, task: Task, emit: Listener = silent, **fields: Any) -> list[Trained]:
    return list(train_frontier(network, task, PruneSpec(**fields), CPU, emit))  # type: ignore[arg-type]


def accuracy(module: Any, task: Task) -> float:
    with torch.no_grad():
        prediction = module(task.holdout.x)[0].argmax(1)
    return 100 * float((prediction == task.holdout.y).float().mean())


@pytest.mark.parametrize("method", ["gumbel", "magnitude"])
def test_every_stop_is_exact_and_good(method: str) -> None:
    network, task = digits()
    found = run(network, task, frontier=STOPS, epochs=12, method=method)
    assert [one.spec.density for one in found] == list(STOPS)
    for one in found:
        kept = round(one.spec.one_density * 6464)
        assert nonzero(one.module) == kept  # type: ignore[arg-type]
        assert sum(int(mask.sum()) for mask in one.result.masks.values()) == kept
        values = one.module.state_values()
        for name, mask in one.result.masks.items():
            assert np.array_equal(values[name] != 0, mask)
        assert not one.module.training
        assert accuracy(one.module, task) > 80.0


def test_the_same_spec_gives_the_same_bits() -> None:
    one, other = (run(*tiny(), frontier=(0.8, 0.5), epochs=4) for _ in range(2))
    for first, second in zip(one, other, strict=True):
        values, again = first.module.state_values(), second.module.state_values()
        assert all(np.array_equal(values[name], again[name]) for name in values)
        assert first.result.curve == second.result.curve


def test_what_comes_later_does_not_change_a_stop() -> None:
    """A stop's module is a copy; and its weights do not depend on which stops follow it, but for the pace."""
    network, task = digits()
    kept = {}
    for one in train_frontier(network, task, PruneSpec(frontier=STOPS, epochs=4), CPU, silent):  # type: ignore[arg-type]
        kept[one.spec.density] = ({n: v.copy() for n, v in one.module.state_values().items()}, one.module)
    for values, module in kept.values():
        later = module.state_values()
        assert all(np.array_equal(value, later[name]) for name, value in values.items())


def test_density_1_is_the_model_as_it_came() -> None:
    network, task = digits()
    before = {name: value.copy() for name, value in network.state_values().items()}
    first, second = run(network, task, frontier=(1.0, 0.5), max_minutes=0.02)
    assert first.result.settings["steps_done"] == 0
    after = first.module.state_values()
    assert all(np.array_equal(after[name], value) for name, value in before.items())
    assert nonzero(second.module) == 3232  # type: ignore[arg-type]


def test_a_density_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="smallest density"):
        run(*tiny(), frontier=(0.5, 0.01), epochs=1)


def test_progress_says_the_stop_and_never_falls() -> None:
    heard: list[ProgressEvent] = []
    run(
        *digits(),
        lambda event: heard.append(event) if isinstance(event, ProgressEvent) else None,
        frontier=STOPS,
        epochs=6,
    )
    stops = [event.progress.stop for event in heard]
    assert stops == sorted(stops, key=lambda stop: stop or 0)
    assert {event.progress.target_density for event in heard} <= set(STOPS)
    shares = [event.progress.fraction for event in heard]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_time_that_runs_out_is_shared_by_the_stops() -> None:
    network, task = digits()
    found = run(network, task, frontier=STOPS, epochs=2000, max_minutes=0.05)
    assert [nonzero(one.module) for one in found] == [3232, 1293, 646]  # type: ignore[arg-type]
    assert not found[0].result.warnings
    assert any("max_minutes" in warning for warning in found[-1].result.warnings)
    assert all(accuracy(one.module, task) > 60.0 for one in found)


def test_falls_together_are_as_long_as_one_and_forks_as_a_fine_tuning() -> None:
    network, task = digits()
    spec = PruneSpec(frontier=STOPS, epochs=10)
    subject = Subject(network, task, spec, CPU)  # type: ignore[arg-type]
    stops = [subject.settings(spec.at(density)) for density in STOPS]
    found, single = legs(stops), stops[0].total_steps
    assert sum(leg.fall for leg in found) == pytest.approx(stops[-1].gates.anneal_until * single, abs=3)
    for leg, stop in zip(found, stops, strict=True):
        assert leg.fork == pytest.approx((1.0 - stop.gates.anneal_until) * single, abs=1)
    assert total_steps(stops) == sum(leg.fall + leg.fork for leg in found)
