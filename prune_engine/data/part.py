"""Some rows of a split, without a copy of them; and the held-out rows in two halves."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from prune_engine.data.prepared import Prepared
from prune_engine.data.rows import Rows
from prune_engine.errors import DataError


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


def with_search_rows(prepared: Prepared, seed: int) -> Prepared:
    """Half of the held-out rows to search a density on; the figures are then measured on the other half.

    Raises:
        DataError: there is only one held-out row.
    """
    count = len(prepared.holdout)
    if count < 2:
        raise DataError("target: half of the held-out rows are to be searched on, and there is only one")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    half = RowsPart(prepared.holdout, order[count // 2 :].sort().values)
    info = prepared.info.model_copy(
        update={
            "holdout_rows": len(half),
            "holdout_source": f"{prepared.info.holdout_source}, the half that was not searched on",
        }
    )
    return replace(prepared, holdout=half, search=RowsPart(prepared.holdout, order[: count // 2]), info=info)
