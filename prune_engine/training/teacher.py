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
    """Gives the dense model's outputs for training rows.

    Where all of them together take at most 256 MiB they are computed once, since no row is ever changed.

    Args:
        module: the dense model; a copy of it is kept in inference mode.
        rows: the training rows.
        expected_rows: rows that will be asked for in all; a cache must pay.
        fixed_batch: batch size that the module demands; None: any.
    """

    def __init__(self, module: Trainable, rows: Rows, expected_rows: int, fixed_batch: int | None) -> None:
        self._module = copy.deepcopy(module)
        for parameter in cast(nn.Module, self._module).parameters():
            parameter.requires_grad_(False)
        self._module.eval()
        self._cache: list[Tensor] | None = None
        count = min(fixed_batch or 2, len(rows))
        probe = outputs_for(self._module, rows, count, fixed_batch)
        # An output without a batch axis cannot be cut into rows; such a model is asked batch by batch.
        by_row = all(output.dim() and len(output) == count for output in probe)
        size = sum(output.nbytes for output in probe) * len(rows) // count
        if by_row and size <= LARGEST_CACHE and expected_rows >= len(rows):
            self._cache = outputs_for(self._module, rows, len(rows), fixed_batch)

    def __call__(self, index: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Outputs for the rows `index`, whose inputs are `inputs`."""
        if self._cache is not None:
            return tuple(output[index] for output in self._cache)
        with torch.no_grad():
            return self._module(*inputs)
