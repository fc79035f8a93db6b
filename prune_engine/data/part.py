"""Some rows of a split, without a copy of them."""

from __future__ import annotations

import torch
from torch import Tensor

from prune_engine.data.rows import Rows


class RowsPart(Rows):
    """The rows `index` of `rows`, numbered from 0.

    Args:
        rows: the split.
        index: int64, which of its rows.
    """

    def __init__(self, rows: Rows, index: Tensor) -> None:
        self.__dict__.update(rows.__dict__)
        self._rows, self._index = rows, index
        self._count = len(index)
        self.labels = None if rows.labels is None else rows.labels[index.to(rows.labels.device)]

    def __len__(self) -> int:
        return len(self._index)

    def to(self, device: torch.device | str) -> RowsPart:
        """The same rows on another device."""
        return RowsPart(self._rows.to(device), self._index.to(device))

    def batch(self, index: Tensor | slice) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """Inputs in the model's order, and the labels or None, of these rows."""
        which = index if isinstance(index, slice) else index.to(self._index.device)
        return self._rows.batch(self._index[which])
