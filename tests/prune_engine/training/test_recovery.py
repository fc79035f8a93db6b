"""A loss that turns NaN: one step back with half the rate mends it, two do, or the run says why it ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prune_engine.errors import DivergedError
from prune_engine.events import WarningEvent, silent
from prune_engine.report import Metric
from prune_engine.spec import PruneSpec
from prune_engine.training import TrainingResult, recovery, train, train_for
from tests.prune_engine.training.tasks import CPU, MemoryRows, Network, Task, digits, nonzero

RATE = 0.01


class Hiccup(Network):
    """Gives NaN in some of its training steps, by their number, whatever comes in."""

    def __init__(self, net: nn.Sequential, at: tuple[int, ...]) -> None:
        super().__init__(net)
        self.at, self.calls = at, 0

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self.calls += self.training
        (output,) = super().forward(*inputs)
        return (output * float("nan"),) if self.training and self.calls in self.at else (output,)


def hiccups(*at: int, **fields: Any) -> tuple[Hiccup, TrainingResult, list[Any]]:
    """80 steps: gates until 40, weights exchanged until 72, then fine-tuning."""
    network, task = digits()
    heard: list[Any] = []
    hiccup = Hiccup(network.net, at)
    spec = PruneSpec(
        **{
            "density": 0.1,
            "epochs": 8,
            "batch_size": 140,
            "learning_rate": RATE,
            "distillation": 0.0,
            **fields,
        }
    )
    result = train(hiccup, task, spec, CPU, heard.append)  # type: ignore[arg-type]
    return hiccup, result, heard


@pytest.mark.parametrize("at", [10, 50, 78], ids=["gates", "exchange", "fine-tuning"])
def test_one_step_back_in_every_phase(at: int) -> None:
    network, result, heard = hiccups(at)
    assert nonzero(network) == 646 == sum(int(mask.sum()) for mask in result.masks.values())
    assert result.settings["steps_done"] == 80
    assert result.settings["learning_rate"] == RATE / 2
    assert [event.message for event in heard if isinstance(event, WarningEvent)] == result.warnings
    (said,) = result.warnings
    assert "went back" in said
    assert "half the learning rate, 0.005" in said
    assert network.calls < 80 + 16, "a step back costs a twentieth of the training, and the check some steps"
    steps = [point.step for point in result.curve]
    assert steps == sorted(set(steps))
    assert all(np.isfinite(value).all() for value in network.state_values().values())


def test_two_steps_back_are_done_and_a_third_ends_the_run() -> None:
    _, result, _ = hiccups(10, 30)
    assert len(result.warnings) == 2
    assert result.settings["learning_rate"] == RATE / 4
    with pytest.raises(
        DivergedError, match=r"gone back 2 times.*in the end to 0\.0025.*learning_rate"
    ) as ended:
        hiccups(10, 30, 50)
    assert ended.value.param == "learning_rate"


def test_a_run_that_goes_well_is_the_same_wherever_its_snapshots_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory, _, _ = hiccups(60)
    monkeypatch.setattr(recovery, "IN_MEMORY", 0)
    in_a_file, result, _ = hiccups(60)
    assert len(result.warnings) == 1
    values = in_memory.state_values()
    assert all(np.array_equal(value, values[name]) for name, value in in_a_file.state_values().items())


def test_a_frontier_goes_on_after_a_step_back() -> None:
    network, task = digits()
    spec = PruneSpec(frontier=(0.3, 0.1), epochs=8, batch_size=140, learning_rate=RATE)
    done = list(train_for(Hiccup(network.net, (50,)), task, spec, CPU, silent))  # type: ignore[arg-type]
    assert [sum(int(mask.sum()) for mask in one.result.masks.values()) for one in done] == [1939, 646]
    assert any("went back" in warning for one in done for warning in one.result.warnings)


class Pole(nn.Module):
    """log(5 - z): no number beyond 5, so whoever goes too fast falls over the edge."""

    def forward(self, z: Tensor) -> Tensor:
        return (5.0 - z).log()


def near_a_pole(x: Tensor, label: float) -> tuple[Network, Task]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1), Pole())
    rows = MemoryRows(x, torch.full((len(x), 1), label))
    metric = Metric(name="mae", unit="", higher_is_better=False)
    return Network(net), Task("regression", "mae", metric, rows, rows)


def fit(network: Network, task: Task, rate: float) -> TrainingResult:
    spec = PruneSpec(density=1.0, epochs=10, batch_size=32, learning_rate=rate, distillation=0.0)
    return train(network, task, spec, CPU, silent)  # type: ignore[arg-type]


def test_what_diverges_for_real_is_learned_at_half_the_rate() -> None:
    """Whether a rate falls over the edge is a matter of its last digits; of eight some do and recover."""
    recovered = 0
    for rate in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        torch.manual_seed(1)
        network, task = near_a_pole(torch.rand(256, 4) + 0.5, 0.69)
        try:
            result = fit(network, task, rate)
        except DivergedError:
            continue
        if result.warnings:
            recovered += 1
            assert result.settings["learning_rate"] < rate
            assert result.curve[-1].loss < 0.5 * result.curve[0].loss
    assert recovered > 0


def test_a_rate_beyond_all_bounds_ends_the_run_with_the_reason() -> None:
    network, task = near_a_pole(torch.rand(256, 4) + 0.5, 0.69)
    with pytest.raises(
        DivergedError, match=r"loss became nan.*gone back 2 times.*in the end to 250"
    ) as ended:
        fit(network, task, 1000.0)
    assert ended.value.code == "training_diverged"


def test_a_model_that_gives_nan_by_itself_is_named_before_anything_is_trained() -> None:
    network, task = near_a_pole(torch.rand(256, 4) * 1000, 0.69)
    with pytest.raises(
        DivergedError, match=r"before anything was trained; the model itself.*256 training rows"
    ):
        fit(network, task, 0.01)


def test_labels_that_overflow_are_named_before_anything_is_trained() -> None:
    network, task = near_a_pole(torch.rand(256, 4) + 0.5, float("inf"))
    with pytest.raises(DivergedError, match=r"before anything was trained.*labels"):
        fit(network, task, 0.01)
