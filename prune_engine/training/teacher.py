"""The dense model as teacher."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from prune_engine.training.inference import outputs_for
from prune_engine.training.result import Trainable

if TYPE_CHECKING:
    from prune_engine.data import Rows

LARGEST_CACHE = 1 << 28


class Teacher:
    """Gives the dense model's outputs for training rows, and remembers them: no row is ever changed.

    All rows are computed before the training, so that it needs no copy of the model. Where the
    time is limited, a row is computed on a CPU when it is first asked for, so that a training that is cut
    short pays for no more than it uses; another device would stall in every step by asking which rows are
    known. Outputs that take more than 256 MiB together are not remembered, but computed by a copy each time.

    Args:
        module: the dense model, with gradients off or on; its mode is left as it was.
        rows: the training rows.
        expected_rows: rows that will be asked for in all; remembering must pay.
        fixed_batch: batch size that the module demands; None: any.
        at_once: whether to compute what is remembered before the training.
    """

    def __init__(
        self,
        module: Trainable,
        rows: Rows,
        expected_rows: int,
        fixed_batch: int | None,
        *,
        at_once: bool = True,
    ) -> None:
        self._copy: Trainable | None = None
        self._outputs: list[Tensor] | None = None
        self._known: Tensor | None = None
        was_training = module.training
        module.eval()
        try:
            self._learn(module, rows, expected_rows, fixed_batch, at_once)
        finally:
            module.train(was_training)

    def _learn(
        self, module: Trainable, rows: Rows, expected_rows: int, fixed_batch: int | None, at_once: bool
    ) -> None:
        count = min(fixed_batch or 2, len(rows))
        probe = outputs_for(module, rows, count, fixed_batch)
        # An output without a batch axis cannot be cut into rows; such a model is asked batch by batch.
        by_row = all(output.dim() and len(output) == count for output in probe)
        size = sum(output.nbytes for output in probe) * len(rows) // count
        remembers = by_row and size <= LARGEST_CACHE and expected_rows >= len(rows)
        if remembers and (at_once or probe[0].device.type != "cpu"):
            self._outputs = outputs_for(module, rows, len(rows), fixed_batch)
            return
        self._copy = copy.deepcopy(module)
        for parameter in cast(nn.Module, self._copy).parameters():
            parameter.requires_grad_(False)
        if remembers:
            self._outputs = [output.new_empty((len(rows), *output.shape[1:])) for output in probe]
            self._known = torch.zeros(len(rows), dtype=torch.bool)

    def __call__(self, index: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Outputs for the rows `index`, whose inputs are `inputs`."""
        if self._outputs is None:
            return self._compute(inputs)
        if self._known is not None and not bool(self._known[index].all()):
            for known, output in zip(self._outputs, self._compute(inputs), strict=True):
                known[index] = output
            self._known[index] = True
        return tuple(output[index] for output in self._outputs)

    def _compute(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        assert self._copy is not None  # noqa: S101 - only rows that are known do without it
        with torch.no_grad():
            return self._copy(*inputs)
