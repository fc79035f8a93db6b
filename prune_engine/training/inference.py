"""The model's outputs for many rows, also where its graph has the batch size baked in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from prune_engine.training.result import Trainable

if TYPE_CHECKING:
    from prune_engine.data import Rows

LARGEST_CHUNK = 500
LARGEST_CHUNK_BYTES = 64 << 20


def outputs_for(module: Trainable, rows: Rows, count: int, fixed_batch: int | None) -> list[Tensor]:
    """All outputs for the first `count` rows, each with `count` rows; the module computes as it is set.

    A last batch smaller than `fixed_batch` is filled up with the last row. An output without a batch axis
    comes back as the chunks' values one after another.
    """
    size = fixed_batch or _chunk(rows)
    parts = []
    with torch.no_grad():
        for start in range(0, count, size):
            index = torch.arange(start, min(start + size, count))
            wanted = len(index)
            if fixed_batch is not None and wanted < fixed_batch:
                index = torch.cat([index, index[-1:].expand(fixed_batch - wanted)])
            parts.append([output[:wanted] for output in module(*rows.batch(index)[0])])
    return [torch.cat(chunks) for chunks in zip(*parts, strict=True)]


def _chunk(rows: Rows) -> int:
    inputs, _ = rows.batch(slice(0, 1))
    return max(1, min(LARGEST_CHUNK, LARGEST_CHUNK_BYTES // max(1, sum(x.nbytes for x in inputs))))
