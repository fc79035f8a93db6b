"""Trying the dense model on a few training rows with one preprocessing after another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prune_engine.data.raw import Array
from prune_engine.data.running import DenseRun, batch_slices, fixed_batch, run_batch
from prune_engine.data.transform import Transform
from prune_engine.report import TensorInfo

MAX_ROWS = 1000
FIRST_ROWS = 128
MIN_ROWS = 32
_NO_ROWS = np.empty(0)


class DidNotRun(Exception):  # noqa: N818  not an error: one candidate less
    """The dense model refused this arrangement of the rows; the text says why."""


@dataclass
class Trial:
    """The dense model and the sampled training rows.

    Args:
        run: the dense model.
        inputs: its inputs.
        train: all training rows as sent, one tensor per input.
        labels: of all training rows, as sent, or None.
        sample: numbers of the rows that are tried.
        one_by_one: the graph turned out to take single rows only, whatever its inputs say.
        seconds: how long all candidates together may take; later ones get fewer rows when it runs out.
    """

    run: DenseRun
    inputs: Sequence[TensorInfo]
    train: Sequence[Tensor]
    labels: Array | None
    sample: Tensor
    one_by_one: bool = False
    seconds: float = 60.0
    seconds_per_row: float = 0.0

    def __len__(self) -> int:
        return len(self.sample)

    @property
    def fixed(self) -> int | None:
        """The batch size that the graph demands; None where any will do."""
        return 1 if self.one_by_one else self.fixed_in_graph

    @property
    def fixed_in_graph(self) -> int | None:
        """The batch size that the graph's inputs name."""
        return fixed_batch(self.inputs)

    def sampled_labels(self, rows: int) -> Array | None:
        """Labels of the first `rows` sampled rows, as sent."""
        return None if self.labels is None else self.labels[self.sample[:rows].numpy()]

    def outputs(self, transforms: Sequence[Transform], rows: int) -> list[Array]:
        """All outputs of the dense model for the first `rows` rows.

        Raises:
            DidNotRun: onnxruntime refused them, or an output has not one entry per row.
        """
        count = min(rows, len(self))
        names = [info.name for info in self.inputs]
        row_bytes = sum(transform.bytes(1) for transform in transforms)
        fixed = self.fixed
        parts: list[list[Array]] = []
        started = time.perf_counter()
        for part in batch_slices(count, fixed, row_bytes):
            with torch.no_grad():
                chosen = self.sample[part]
                arrays = [t(tensor[chosen]).numpy() for t, tensor in zip(transforms, self.train, strict=True)]
            try:
                outputs = run_batch(self.run, names, arrays, fixed)
            except Exception as error:  # noqa: BLE001  onnxruntime has no common class of errors
                raise DidNotRun(" ".join(str(error).split())[:300]) from None
            if not any(out.ndim and len(out) == part.stop - part.start for out in outputs):
                shapes = ", ".join(str(out.shape) for out in outputs)
                raise DidNotRun(f"{part.stop - part.start} rows gave outputs of shape {shapes}")
            parts.append(
                [out if out.ndim and len(out) == part.stop - part.start else _NO_ROWS for out in outputs]
            )
        self.seconds_per_row = (time.perf_counter() - started) / max(1, count)
        return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]

    def rows_affordable(self, candidates: int) -> int:
        """How many rows each of so many candidates may take within the time."""
        if self.seconds_per_row <= 0:
            return MAX_ROWS
        affordable = int(self.seconds / (self.seconds_per_row * max(1, candidates)))
        return max(MIN_ROWS, min(MAX_ROWS, affordable))
