"""What a pass costs: activations counted exactly, seconds that grow with the rows."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from os import cpu_count

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
    cost = StepCost(16, 1.0, seconds_per_row=0.5, fixed_seconds=2.0, activation_bytes=0, threads=1)
    assert cost.of(4) == 4.0


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Waiting(Net):
    """Several threads wait for each other, as beside a program that keeps the processors busy."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        time.sleep(0.05 * (torch.get_num_threads() - 1))
        return super().forward(x)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("fixed_batch", [None, 4])
def test_where_threads_wait_for_each_other_one_alone_is_measured(fixed_batch: int | None) -> None:
    cost = measure_step(Waiting(), rows, fixed_batch)
    assert cost.threads == 1
    assert cost.of(128) < 0.05
    assert torch.get_num_threads() == 2


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv2d(16, 16, 3, padding=1) for _ in range(10)))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.layers(x),)


@pytest.mark.usefixtures("two_threads")
def test_beside_programs_that_keep_every_processor_busy_the_cost_stays_of_its_size() -> None:
    def images(count: int) -> tuple[Tensor, ...]:
        return (torch.ones(count, 16, 32, 32),)

    net = Convolutions()
    alone = measure_step(net, images).of(128)
    code = "print('begun', flush=True)\nwhile True: pass"
    count = 2 * (cpu_count() or 1)
    busy = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(count)]
    try:
        for process in busy:
            assert process.stdout is not None
            process.stdout.readline()
        beside = measure_step(net, images).of(128)
    finally:
        for process in busy:
            process.kill()
            process.communicate()
    assert beside < 6 * alone


class Slower(Net):
    """One thread takes longer than two, which are idle for some time."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        began = time.thread_time()
        while torch.get_num_threads() == 1 and time.thread_time() - began < 0.1:
            pass
        time.sleep(0.01)
        return super().forward(x)


@pytest.mark.usefixtures("two_threads")
def test_where_several_threads_are_quicker_all_the_same_they_are_the_answer() -> None:
    cost = measure_step(Slower(), rows)
    assert cost.threads == 2
    assert 0.01 <= cost.seconds < 0.1


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
