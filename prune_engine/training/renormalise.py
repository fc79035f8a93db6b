"""Whether convolutions are given a BatchNorm for the time of the training, and from which rows it starts.

What it is for: a network whose BatchNorm was folded away by its exporter stands neither gates nor a learning
rate worth the name. What is done is in `formats/renormalised.py`, the figures in `benchmarks/lab-book.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from prune_engine.spec import PruneSpec
from prune_engine.training.result import Trainable

if TYPE_CHECKING:
    from prune_engine.data import Prepared

FEWEST_ROWS = 16
"""Rows of a step below which the statistics of a batch say too little."""

FEWEST_CONVOLUTIONS = 4
"""Below which a network stands gates and rates as it is: renormalised, LeNet-5 loses 0.4 points at 0.33 %."""

BATCHES = 20
"""From which the statistics are taken at the start."""


@runtime_checkable
class Renormalisable(Protocol):
    """A module that can compute its convolutions with a BatchNorm; `formats.OnnxModule` is one."""

    def renormalisable(self) -> list[str]:
        """Names of the weights whose convolution would get one."""

    def renormalise(self, batches: Iterable[tuple[Tensor, ...]]) -> None:
        """Put them in; the function stays the same."""

    def fold(self) -> None:
        """Take them away again; the function of inference stays the same."""


def renormalise(
    module: Trainable, prepared: Prepared, spec: PruneSpec, batch_size: int, fresh: bool
) -> tuple[int, str]:
    """Give a BatchNorm to the convolutions of `module` that may have one.

    Args:
        module: its parameters are on the device.
        prepared: training rows, and what is learned from them.
        spec: what is asked.
        batch_size: rows of a training step.
        fresh: whether the training starts from other weights than the module's.

    Returns:
        How many convolutions have one now, and why.
    """
    against = _against(module, prepared, spec, batch_size, fresh)
    if against:
        return 0, against
    assert isinstance(module, Renormalisable)  # noqa: S101 - nothing was against it
    count = len(module.renormalisable())
    module.renormalise(_batches(prepared, batch_size, spec.seed))
    return count, "convolutions with a bias, and no normalisation in the model"


def _against(
    module: Trainable, prepared: Prepared, spec: PruneSpec, batch_size: int, fresh: bool
) -> str | None:
    if spec.renormalise == "off":
        return "as asked"
    if not isinstance(module, Renormalisable) or not module.renormalisable():
        return "no convolutions with a bias, or the model has a normalisation of its own"
    if len(module.renormalisable()) < FEWEST_CONVOLUTIONS:
        return "a network with so few convolutions stands the training as it is"
    if prepared.task != "classification":
        return "not classes but numbers are learned"
    if fresh:
        return "the training starts from fresh weights"
    if not spec.train_weights:
        return "the weights are not trained"
    if prepared.fixed_batch is not None or batch_size < FEWEST_ROWS:
        return "too few rows in a step"
    return None


def _batches(prepared: Prepared, batch_size: int, seed: int) -> Iterator[tuple[Tensor, ...]]:
    """Some training rows, no matter in which order they came."""
    order = torch.randperm(len(prepared.train), generator=torch.Generator().manual_seed(seed))
    for index in order[: BATCHES * batch_size].split(batch_size):  # type: ignore[no-untyped-call]
        yield prepared.train.batch(index)[0]
