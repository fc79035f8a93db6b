"""How much of a flat tensor is worked on at a time: what fits into a core's cache, or fills a GPU.

A step over all gates is a dozen element-wise operations. In pieces of this length what one writes is still in
the cache when the next reads it, and what lies between two operations takes no memory that would grow with
the model.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

CPU_LENGTH = 1 << 17
CUDA_LENGTH = 1 << 22


def chunk_length(device: torch.device) -> int:
    """Elements of a chunk on `device`."""
    return CPU_LENGTH if device.type == "cpu" else CUDA_LENGTH


def chunks(start: int, stop: int, device: torch.device) -> Iterator[slice]:
    """`start` to `stop` in order, in slices of at most `chunk_length`."""
    length = chunk_length(device)
    for begin in range(start, stop, length):
        yield slice(begin, min(begin + length, stop))


class Views:
    """Slices of a tensor, each made once: to make a view takes half as long as to add two chunks.

    Args:
        tensor: flat; not to be given other storage.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._made: dict[tuple[int, int], Tensor] = {}

    def __getitem__(self, place: slice) -> Tensor:
        """`tensor[place]`."""
        key = (place.start, place.stop)
        view = self._made.get(key)
        if view is None:
            view = self._made[key] = self._tensor[place]
        return view
