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

    On a CPU a row is computed when it is first asked for, so that a training that is cut short pays for no
    more than it uses. On another device, where asking which rows are known would stall every step, all rows
    are computed at once. Outputs that take more than 256 MiB together are not remembered.

    Args:
        module: the dense model; a copy of it is kept in inference mode.
        rows: the training rows.
        expected_rows: rows that will be asked for in all; remembering must pay.
        fixed_batch: batch size that the module demands; None: any.
    """

    def __init__(self, module: Trainable, rows: Rows, expected_rows: int, fixed_batch: int | None) -> None:
        self._module = copy.deepcopy(module)
        for parameter in cast(nn.Module, self._module).parameters():
            parameter.requires_grad_(False)
        self._module.eval()
        self._outputs: list[Tensor] | None = None
        self._known: Tensor | None = None
        count = min(fixed_batch or 2, len(rows))
        probe = outputs_for(self._module, rows, count, fixed_batch)
        # An output without a batch axis cannot be cut into rows; such a model is asked batch by batch.
        by_row = all(output.dim() and len(output) == count for output in probe)
        size = sum(output.nbytes for output in probe) * len(rows) // count
        if not by_row or size > LARGEST_CACHE or expected_rows < len(rows):
            return
        if probe[0].device.type == "cpu":
            self._outputs = [output.new_empty((len(rows), *output.shape[1:])) for output in probe]
            self._known = torch.zeros(len(rows), dtype=torch.bool)
        else:
            self._outputs = outputs_for(self._module, rows, len(rows), fixed_batch)

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
        with torch.no_grad():
            return self._module(*inputs)
