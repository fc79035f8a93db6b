"""The order of the training rows: shuffled anew every epoch, from the seed alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def shuffled(rows: int, batch_size: int, seed: int, device: torch.device) -> Iterator[Tensor]:
    """Row indices of one batch after another, without end; all full, each row at most once an epoch.

    A full batch keeps its order; a batch larger than the data has rows twice.
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        if batch_size >= rows:
            yield torch.arange(batch_size, device=device) % rows
            continue
        order = torch.randperm(rows, generator=generator).to(device)
        for start in range(0, rows - batch_size + 1, batch_size):
            yield order[start : start + batch_size]
