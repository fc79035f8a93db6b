"""The order of the training rows: the one in which our engine takes them, so all methods see the same."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def batches(rows: int, batch_size: int, seed: int, device: torch.device) -> Iterator[Tensor]:
    """Row indices of one full batch after another, without end; shuffled anew every epoch."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(rows, generator=generator).to(device)
        for start in range(0, rows - batch_size + 1, batch_size):
            yield order[start : start + batch_size]
