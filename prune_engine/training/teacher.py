"""The dense model as teacher."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from prune_engine.training.result import Trainable

if TYPE_CHECKING:
    from prune_engine.data import Rows

LARGEST_CACHE = 1 << 28
CHUNK = 500


class Teacher:
    """Gives the dense model's outputs for training rows.

    Where all of them together take at most 256 MiB they are computed once, since no row is ever changed.

    Args:
        module: the dense model; a copy of it is kept in inference mode.
        rows: the training rows.
        output_index: the output that is wanted; None: all of them.
        expected_rows: rows that will be asked for in all; a cache must pay.
    """

    def __init__(self, module: Trainable, rows: Rows, output_index: int | None, expected_rows: int) -> None:
        self._module = copy.deepcopy(module)
        for parameter in cast(nn.Module, self._module).parameters():
            parameter.requires_grad_(False)
        self._module.eval()
        self._output_index = output_index
        self._cache: list[Tensor] | None = None
        probe = self._predict(rows.batch(slice(0, min(2, len(rows))))[0])
        size = sum(output.nbytes for output in probe) * len(rows) // min(2, len(rows))
        if size <= LARGEST_CACHE and expected_rows >= len(rows):
            chunks = [
                self._predict(rows.batch(slice(start, min(start + CHUNK, len(rows))))[0])
                for start in range(0, len(rows), CHUNK)
            ]
            # An output without a batch axis cannot be cut into rows; such a model is asked batch by batch.
            if all(
                output.dim() and len(output) == len(rows)
                for output in map(torch.cat, zip(*chunks, strict=True))
            ):
                self._cache = [torch.cat(parts) for parts in zip(*chunks, strict=True)]

    def __call__(self, index: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Outputs for the rows `index`, whose inputs are `inputs`."""
        if self._cache is not None:
            return tuple(output[index] for output in self._cache)
        return self._predict(inputs)

    def _predict(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        with torch.no_grad():
            outputs = self._module(*inputs)
        return outputs if self._output_index is None else (outputs[self._output_index],)
