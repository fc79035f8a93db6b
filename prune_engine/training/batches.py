"""The order of the training rows: shuffled anew every epoch, from the seed alone."""

from __future__ import annotations

import torch
from torch import Tensor

from prune_engine.state import State, tensor_of


class Batches:
    """Row indices of one batch after another, without end; all full, each row at most once an epoch.

    A full batch keeps its order; a batch larger than the data has rows twice.
    """

    def __init__(self, rows: int, batch_size: int, seed: int, device: torch.device) -> None:
        self._rows = rows
        self._batch_size = batch_size
        self._device = device
        self._generator = torch.Generator().manual_seed(seed)
        self._before = self._generator.get_state()
        self._order: Tensor | None = None
        self._next = 0

    def __iter__(self) -> Batches:
        """Itself: whoever asks goes on where the last one stopped."""
        return self

    def __next__(self) -> Tensor:
        """The next batch."""
        if self._batch_size >= self._rows:
            return torch.arange(self._batch_size, device=self._device) % self._rows
        if self._order is None or self._next > self._rows - self._batch_size:
            self._before, self._next = self._generator.get_state(), 0
            self._order = self._draw()
        self._next += self._batch_size
        return self._order[self._next - self._batch_size : self._next]

    def _draw(self) -> Tensor:
        return torch.randperm(self._rows, generator=self._generator).to(self._device)

    def state(self) -> State:
        """The generator as it was before this epoch, and the place in the epoch; no order of rows."""
        return {"generator": self._before, "next": self._next, "begun": int(self._order is not None)}

    def load(self, state: State) -> None:
        """Go on with the batch that followed `state()`."""
        self._before, self._next = tensor_of(state, "generator").cpu().clone(), int(state["next"])
        self._generator.set_state(self._before)
        self._order = self._draw() if state["begun"] else None
