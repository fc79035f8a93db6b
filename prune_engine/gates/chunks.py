"""How much of a flat tensor is worked on at a time: what fits into a core's cache, or fills a GPU.

A step over all gates is a dozen element-wise operations. In pieces of this length what one writes is still in
the cache when the next reads it, and what lies between two operations takes no memory that would grow with
the model.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

CPU_LENGTH = 1 << 15
CUDA_LENGTH = 1 << 22


def chunk_length(device: torch.device) -> int:
    """Elements of a chunk on `device`."""
    return CPU_LENGTH if device.type == "cpu" else CUDA_LENGTH


def chunks(start: int, stop: int, device: torch.device) -> Iterator[slice]:
    """`start` to `stop` in order, in slices of at most `chunk_length`."""
    length = chunk_length(device)
    for begin in range(start, stop, length):
        yield slice(begin, min(begin + length, stop))
