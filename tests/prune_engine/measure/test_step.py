"""What a pass costs: activations counted exactly, seconds that grow with the rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prune_engine.measure.step import MORE, StepCost, StepError, measure_step


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 100), nn.Linear(100, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.second(torch.tanh(self.first(x))),)


def rows(count: int) -> tuple[Tensor, ...]:
    return (torch.ones(count, 8),)


def test_what_the_backward_pass_needs_is_counted_without_the_weights() -> None:
    cost = measure_step(Net(), rows)
    # The inputs of both layers are remembered; the second's is also tanh's output.
    assert cost.activation_bytes == 4 * (8 + 100)


def test_more_rows_cost_more_and_the_largest_batch_is_told() -> None:
    cost = measure_step(Net(), rows)
    assert cost.rows == MORE
    assert cost.seconds > 0
    assert cost.of(1000) > cost.of(10) > 0


def test_a_model_that_demands_a_batch_size_is_measured_with_it_alone() -> None:
    seen = []

    def batch(count: int) -> tuple[Tensor, ...]:
        seen.append(count)
        return rows(count)

    cost = measure_step(Net(), batch, fixed_batch=5)
    assert set(seen) == {5}
    assert cost.of(50) == pytest.approx(10 * cost.seconds)


def test_the_cost_of_a_batch_is_a_straight_line() -> None:
    assert StepCost(16, 1.0, seconds_per_row=0.5, fixed_seconds=2.0, activation_bytes=0).of(4) == 4.0


class WithoutGradient(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x.argmax(1),)


class Broken(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        raise RuntimeError("no such thing")


@pytest.mark.parametrize(("module", "said"), [(WithoutGradient(), "gradient"), (Broken(), "no such thing")])
def test_what_cannot_be_measured_says_why(module: nn.Module, said: str) -> None:
    with pytest.raises(StepError, match=said):
        measure_step(module, rows)
