"""One training in several processes: each computes a share of every batch, all learn the same.

The processes are told who they are as torchrun tells it (`RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR`,
`MASTER_PORT`). Gradients are summed over the ranks before gates and optimisers see them, noise and batches
come from the same seed: so weights, logits and masks are the same bits on every rank, and nobody has to send
them. Only the first rank measures and writes. Alone, every function here does nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, distributed, nn

LONGEST_WAIT = timedelta(hours=2)
"""The first rank measures a result while the others already wait in the next training of a frontier."""
SETTLING = 0.5
"""Seconds between the last message and the end of the group: ended at once, gloo's threads aborted a process
in 4 of 15 runs of two ranks, and in none of 32 after half a second."""
BUCKET = 1 << 22
"""Elements that are summed in one message."""


@runtime_checkable
class FollowsStatistics(Protocol):
    """A module that says which of its buffers training moves."""

    def running_statistics(self) -> list[Tensor]:
        """Those buffers."""


class HelperFinishedError(Exception):
    """The work of a rank other than the first is done: there is no result to give."""


def join(device: torch.device) -> None:
    """Become one of the processes that the environment tells of; alone: nothing.

    Args:
        device: "cpu" (gloo) or "cuda" (NCCL, with the GPU of `LOCAL_RANK`).
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or distributed.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT)


def leave() -> None:
    """Take leave of the others, where there are any."""
    if distributed.is_initialized():
        time.sleep(SETTLING)
        distributed.destroy_process_group()


def ranks() -> int:
    """How many processes train together; 1: this one alone."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def own(pieces: Sequence[Tensor]) -> Sequence[Tensor]:
    """The pieces of a batch that this rank computes; it may be none."""
    return pieces[rank() :: ranks()]


def agreed(value: float, device: torch.device | None = None) -> float:
    """A number that every rank has of its own (a time, a measurement), as the first rank has it."""
    if ranks() == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=device or _device())
    distributed.broadcast(shared, 0)
    return float(shared)


def sum_gradients(parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
    """Sum the gradients over the ranks, in place, and give the sum of `loss`.

    A parameter without a gradient on this rank counts as zero.
    """
    if ranks() == 1:
        return loss
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    loss = loss.clone()
    _sum([loss, *gradients])
    return loss


def average_buffers(module: nn.Module) -> None:
    """Give every rank the mean of what the module follows in training: BatchNorm's running statistics.

    Its other buffers are constants, which a sum would change: masks of the smallest float there is would
    become infinite, and thirds are not exact.
    """
    if ranks() == 1:
        return
    buffers = [buffer for part in module.modules() for buffer in _statistics(part)]
    _sum(buffers)
    for buffer in buffers:
        buffer.div_(ranks())


def _statistics(part: nn.Module) -> list[Tensor]:
    """The running statistics of a module itself: as it says, or as torch's own layers name them."""
    if isinstance(part, FollowsStatistics):
        return part.running_statistics()
    named = part.named_buffers(recurse=False)
    return [buffer for name, buffer in named if name in ("running_mean", "running_var")]


def _sum(tensors: Sequence[Tensor]) -> None:
    """All-reduce, small tensors together."""
    waiting: list[Tensor] = []
    for tensor in tensors:
        if waiting and sum(t.numel() for t in waiting) + tensor.numel() > BUCKET:
            _sum_bucket(waiting)
            waiting = []
        waiting.append(tensor)
    if waiting:
        _sum_bucket(waiting)


def _sum_bucket(tensors: list[Tensor]) -> None:
    if len(tensors) == 1:
        distributed.all_reduce(tensors[0])
        return
    joined = torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])
    distributed.all_reduce(joined)
    for tensor, part in zip(tensors, torch.split(joined, [t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view(tensor.shape))


def _device() -> torch.device:
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
