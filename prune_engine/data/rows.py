"""`Rows`: inputs and labels ready for the model, on a device, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prune_engine.data.plane import plane_of
from prune_engine.data.transform import Transform

MATERIALISE_BYTES = 1 << 30
_CHUNK_BYTES = 64 << 20
_DEVICE_SHARE = 0.25


class Rows:
    """Rows of one split.

    The preprocessing is done once where the result fits into 1 GiB, otherwise for every batch.

    Attributes:
        planes: for each model input how the image lies in its rows; None: it is none.

    Args:
        raw: one tensor per model input, in the model's order, rows on the first axis.
        transforms: what turns each of them into the model's input.
        names: of the model's inputs.
        labels: int64 (rows,) for classes, float32 (rows, ...) for numbers, or None.
        materialise_bytes: how much may be preprocessed in advance.
    """

    def __init__(
        self,
        raw: Sequence[Tensor],
        transforms: Sequence[Transform],
        labels: Tensor | None,
        names: Sequence[str],
        *,
        materialise_bytes: int = MATERIALISE_BYTES,
    ) -> None:
        self.labels = labels
        self.names = tuple(names)
        self.device = torch.device("cpu")
        self._count = len(raw[0])
        self._transforms: tuple[Transform, ...] | None = tuple(transforms)
        self._stored = tuple(raw)
        pairs = zip(transforms, raw, strict=True)
        self.planes = tuple(plane_of(transform.arrangement, rows) for transform, rows in pairs)
        if sum(transform.bytes(self._count) for transform in transforms) <= materialise_bytes:
            self._stored = tuple(_apply(t, rows) for t, rows in zip(transforms, raw, strict=True))
            self._transforms = None

    def __len__(self) -> int:
        return self._count

    @property
    def materialised(self) -> bool:
        """Whether the preprocessing is already done."""
        return self._transforms is None

    @property
    def row_bytes(self) -> int:
        """Bytes of one row as the model gets it."""
        if self._transforms is not None:
            return sum(transform.bytes(1) for transform in self._transforms)
        return sum(rows[0].numel() * rows.element_size() for rows in self._stored) if self._count else 0

    def to(self, device: torch.device | str) -> Rows:
        """The same rows on another device.

        What takes more than a quarter of a GPU's free memory stays in main memory and follows batch by batch.
        """
        moved = object.__new__(Rows)
        moved.device, moved.names = torch.device(device), self.names
        moved._count, moved._transforms = self._count, self._transforms
        moved.planes = self.planes
        stays = sum(rows.numel() * rows.element_size() for rows in self._stored) > _room(moved.device)
        moved._stored = self._stored if stays else tuple(rows.to(moved.device) for rows in self._stored)
        moved.labels = None if self.labels is None else self.labels.to(moved.device)
        return moved

    def batch(self, index: Tensor | slice) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """Inputs in the model's order, and the labels or None, of these rows."""
        inputs = []
        for position, stored in enumerate(self._stored):
            rows = stored[index] if isinstance(index, slice) else stored[index.to(stored.device)]
            if self.device.type == "cuda" and rows.device.type == "cpu":
                rows = rows.pin_memory()  # so that the copy is not waited for
            rows = rows.to(self.device, non_blocking=True)
            inputs.append(rows if self._transforms is None else self._transforms[position](rows))
        if self.labels is None:
            return tuple(inputs), None
        return tuple(inputs), self.labels[index if isinstance(index, slice) else index.to(self.device)]

    def feed(self, index: Tensor | slice) -> dict[str, np.ndarray[Any, Any]]:
        """Inputs of these rows by name, as onnxruntime takes them."""
        inputs, _ = self.batch(index)
        return {name: rows.cpu().numpy() for name, rows in zip(self.names, inputs, strict=True)}


def _room(device: torch.device) -> float:
    """Bytes of rows that may be kept on `device`."""
    if device.type != "cuda":
        return float("inf")
    return _DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]


def _apply(transform: Transform, rows: Tensor) -> Tensor:
    """The transform in chunks, so that the peak of memory stays near the result's size."""
    if len(rows) == 0:
        return transform(rows)
    step = max(1, _CHUNK_BYTES // max(1, transform.bytes(1)))
    first = transform(rows[:step])
    if step >= len(rows):
        return first
    ready = torch.empty((len(rows), *first.shape[1:]), dtype=first.dtype)
    ready[: len(first)] = first
    for start in range(step, len(rows), step):
        ready[start : start + step] = transform(rows[start : start + step])
    return ready
