"""The whole training: exact density, repeatability, distillation, limits, divergence."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_engine.errors import DivergedError, SpecError
from prune_engine.events import Listener, ProgressEvent, StageEvent, silent
from prune_engine.report import Metric
from prune_engine.spec import PruneSpec
from prune_engine.training import TrainingResult, train
from tests.prune_engine.devices import DEVICES
from tests.prune_engine.training.tasks import CPU, MemoryRows, Network, Task, digits, nonzero, tiny


def run(
    network: Network, task: Task, density: float, emit: Listener = silent, **fields: Any
) -> TrainingResult:
    return train(network, task, PruneSpec(density=density, **fields), CPU, emit)  # type: ignore[arg-type]


@given(
    density=st.floats(0.1, 1.0),
    method=st.sampled_from(["gumbel", "magnitude"]),
    epochs=st.integers(1, 3),
)
@settings(deadline=None, max_examples=25)
def test_the_density_is_met_to_the_weight(density: float, method: str, epochs: int) -> None:
    network, task = tiny()
    result = run(network, task, density, method=method, epochs=epochs)
    kept = round(density * 20)
    assert sum(int(mask.sum()) for mask in result.masks.values()) == kept
    assert nonzero(network) == kept
    values = network.state_values()
    for name, mask in result.masks.items():
        assert np.array_equal(values[name] != 0, mask)
        assert np.array_equal(result.before_finetuning[name] != 0, mask)


def test_a_density_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="smallest density"):
        run(*tiny(), density=0.01)


def test_weights_that_are_zero_are_kept_as_the_smallest_number() -> None:
    network, task = tiny()
    with torch.no_grad():
        network.net[0].weight.zero_()  # type: ignore[union-attr,operator]
    run(network, task, density=1.0, epochs=1, learning_rate=1e-12)
    assert nonzero(network) == 20
    assert float(network.weights["0.weight"].abs().max()) == pytest.approx(1e-7)


@pytest.mark.parametrize("method", ["gumbel", "magnitude"])
@pytest.mark.parametrize("device", DEVICES)
def test_digits_survive_a_tenth_of_their_weights(device: torch.device, method: str) -> None:
    network, task = digits()
    spec = PruneSpec(density=0.1, epochs=30, method=method)  # type: ignore[arg-type]
    result = train(network, task, spec, device, silent)  # type: ignore[arg-type]
    network.to(CPU).eval()
    with torch.no_grad():
        prediction = network(task.holdout.x)[0].argmax(1)
    accuracy = 100 * float((prediction == task.holdout.y).float().mean())
    assert accuracy > 85.0
    measured = [point.value for point in result.curve if point.value is not None]
    assert measured[-1] == pytest.approx(accuracy, abs=3.0)


def test_without_labels_the_dense_model_is_followed() -> None:
    network, task = digits(labels=False)
    dense = copy.deepcopy(network).eval()
    result = run(network, task, density=0.15, epochs=30)
    assert result.settings["distillation"] == 1.0
    with torch.no_grad():
        same = network(task.holdout.x)[0].argmax(1) == dense(task.holdout.x)[0].argmax(1)
    assert float(same.float().mean()) > 0.85


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    outcomes = []
    for seed in (1, 1, 2):
        network, task = tiny(rows=300)
        result = run(network, task, density=0.5, epochs=3, seed=seed)
        outcomes.append((network.state_values(), result.masks, result.before_finetuning))
    for one, other in zip(outcomes[0], outcomes[1], strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    assert any(not np.array_equal(outcomes[0][0][name], outcomes[2][0][name]) for name in outcomes[0][0])


def test_the_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    network, task = tiny()
    torch.manual_seed(5)
    run(network, task, density=0.5, epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_events_tell_the_stages_in_order_and_progress_grows() -> None:
    events: list[Any] = []
    network, task = tiny(rows=300)
    result = run(network, task, density=0.5, epochs=20, emit=events.append)
    assert [event.stage for event in events if isinstance(event, StageEvent)] == ["pruning", "finetuning"]
    progress = [event for event in events if isinstance(event, ProgressEvent)]
    fractions = [event.progress.fraction for event in progress]
    assert fractions == sorted(fractions)
    assert {"loss", "density", "accuracy"} <= set(progress[-1].metrics)
    steps = [point.step for point in result.curve]
    assert steps == sorted(set(steps))
    assert result.curve[-1].density == pytest.approx(0.5)
    assert set(result.durations) == {"pruning", "finetuning"}


def test_nothing_auto_is_left_in_the_settings() -> None:
    settings_ = run(*tiny(), density=0.5).settings
    assert "auto" not in settings_.values()
    for name in ("epochs", "batch_size", "learning_rate", "gate_learning_rate", "gate_noise", "kept"):
        assert isinstance(settings_[name], int | float), name


def test_max_minutes_cuts_the_training_and_says_so() -> None:
    network, task = tiny(rows=400)
    started = time.monotonic()
    result = run(network, task, density=0.5, epochs=100_000, max_minutes=1.0 / 60.0)
    assert time.monotonic() - started < 5.0
    assert nonzero(network) == 10
    assert "max_minutes" in result.warnings[0]
    assert {point.stage for point in result.curve} <= {"pruning", "finetuning"}


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    network, task = tiny()
    task = replace(task, train=MemoryRows(torch.full((40, 3), 1e38), task.train.y))
    with pytest.raises(DivergedError, match="before anything was trained"):
        run(network, task, density=0.5, epochs=50)


def test_the_holdout_never_influences_the_result() -> None:
    outcomes = []
    for junk in (False, True):
        network, task = tiny(rows=200)
        if junk:
            task = replace(task, holdout=MemoryRows(torch.randn(7, 3), torch.zeros(7).long()))
        run(network, task, density=0.5, epochs=3)
        outcomes.append(network.state_values())
    assert all(np.array_equal(outcomes[0][name], outcomes[1][name]) for name in outcomes[0])


def test_a_hundred_steps_of_a_batchnorm_net_move_its_statistics() -> None:
    network, task = tiny()
    before = network.state_values()["1.running_mean"].copy()
    run(network, task, density=0.5, epochs=10)
    assert not np.array_equal(before, network.state_values()["1.running_mean"])


class FixedBatch(Network):
    """Refuses every batch but one of eight rows, as a graph with a batch size of its own does."""

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        assert len(inputs[0]) == 8
        return super().forward(*inputs)


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("rows", [5, 100])
def test_a_model_that_demands_its_batch_size_always_gets_it(labels: bool, rows: int) -> None:
    network, task = tiny(rows)
    if not labels:
        data = MemoryRows(task.train.x, None)
        metric = Metric(name="agreement", unit="%", higher_is_better=True)
        task = replace(task, task="distillation", metric=metric, train=data, holdout=data)
    fixed = FixedBatch(network.net)
    result = run(fixed, replace(task, fixed_batch=8), density=0.5, epochs=2)
    assert nonzero(fixed) == 10
    assert result.settings["batch_size"] % 8 == 0
