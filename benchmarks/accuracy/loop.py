"""Training a torch module on the rows of a task, and measuring it: one loop for dense nets and all peers."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.accuracy.order import batches
from benchmarks.accuracy.rows import USD, Rows
from benchmarks.accuracy.tasks import Task

Groups = Iterable[dict[str, Any]]


def steps_of(rows: Rows, task: Task, epochs: int) -> int:
    """Training steps in so many epochs; the rows that fill no batch are left out, as in our engine."""
    return epochs * (len(rows.x_train) // task.batch_size)


def one_cycle(groups: Groups, steps: int) -> tuple[torch.optim.Optimizer, Callable[[], None]]:
    """Adam with PyTorch's own one-cycle schedule; each group's `lr` is its peak."""
    groups = list(groups)
    optimiser = torch.optim.Adam(groups, fused=True)
    peaks = [group["lr"] for group in groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peaks, steps, cycle_momentum=False)
    return optimiser, schedule.step


def constant(groups: Groups, steps: int) -> tuple[torch.optim.Optimizer, Callable[[], None]]:
    """Adam at constant rates."""
    return torch.optim.Adam(list(groups), fused=True), lambda: None


def train(
    net: nn.Module,
    rows: Rows,
    task: Task,
    *,
    epochs: int,
    seed: int,
    optimiser: torch.optim.Optimizer,
    after_step: Callable[[], None],
    before_step: Callable[[int, int], None] = lambda step, steps: None,
    penalty: Callable[[], Tensor | None] = lambda: None,
) -> None:
    """Train in place, on the batches in the order in which our engine takes them with this seed.

    Args:
        net: called with a batch of inputs.
        rows: already on the device of `net`.
        before_step: called with (step, steps).
        penalty: added to the loss of the task.
        after_step: called after each step of the optimiser.
    """
    device = rows.x_train.device
    steps = steps_of(rows, task, epochs)
    order = batches(len(rows.x_train), task.batch_size, seed, device)
    net.train()
    for step, index in zip(range(steps), order, strict=False):
        before_step(step, steps)
        with accelerated(task, device):
            output = net(task_input(task, rows, rows.x_train[index]))
        loss = task_loss(task, output.float(), rows.y_train[index])
        extra = penalty()
        if extra is not None:
            loss = loss + extra
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        after_step()
    net.eval()


def task_loss(task: Task, output: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy, or the mean squared error."""
    if task.metric == "rmse":
        return functional.mse_loss(output, target)
    return functional.cross_entropy(output, target)


def task_input(task: Task, rows: Rows, x: Tensor) -> Tensor:
    """Network input of raw rows, in the memory format that the task trains in."""
    ready = rows.as_input(x)
    return ready.contiguous(memory_format=torch.channels_last) if task.convolutional else ready


def accelerated(task: Task, device: torch.device) -> contextlib.AbstractContextManager[None]:
    """bfloat16 where it helps: convolutional nets, on CUDA and on processors with bfloat16 units."""
    if task.convolutional and (device.type == "cuda" or has_bfloat16()):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@torch.no_grad()
def measure(net: nn.Module, rows: Rows, task: Task, chunk: int = 1_000) -> float:
    """The metric on the test rows, in float32: accuracy in %, or the error in thousands of dollars."""
    net.eval()
    total = 0.0
    for x, y in zip(torch.split(rows.x_test, chunk), torch.split(rows.y_test, chunk), strict=True):
        output = net(rows.as_input(x)).float()
        if task.metric == "rmse":
            total += float(((output - y) ** 2).sum())
        else:
            total += float((output.argmax(1) == y).sum())
    mean = total / len(rows.x_test)
    return in_thousands(mean) if task.metric == "rmse" else 100.0 * mean


def in_thousands(mean_squared_error: float) -> float:
    """The root of a squared error of house values, in thousands of dollars."""
    return math.sqrt(mean_squared_error) * USD / 1_000
