"""Images are moved by a few pixels and mirrored in training, as far as the dense model still knows them.

A network with plenty of weights left learns its training rows by heart long before it generalises as well as
the dense one did; moved images are new rows with the same labels. How a row is moved is computed from the
seed, the step and the row's number alone: nothing has to be kept or drawn, on every device the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prune_engine.data.plane import Plane

_MASK = 0xFFFFFFFF
_MIRROR = 0x9E3779B9
"""Makes of the number of a row another one, so that its mirroring does not follow from its offset."""


@dataclass(frozen=True)
class Shifts:
    """Moves each image by a whole number of pixels; the border's own values fill what is uncovered.

    Attributes:
        planes: one entry a model input; None: not an image, left alone.
        pixels: how far an image is moved at most, in each direction.
        share: of the rows that are moved; the others stay as they are.
        seed: of the choice.
        mirror: whether half of the rows that are moved are seen in the mirror, left for right.
    """

    planes: tuple[Plane | None, ...]
    pixels: int
    share: float = 1.0
    seed: int = 0
    mirror: bool = False

    def __call__(self, inputs: Sequence[Tensor], rows: Tensor, step: int) -> tuple[Tensor, ...]:
        """The inputs of these rows as they are seen in this step.

        Args:
            inputs: one tensor a model input, rows on the first axis.
            rows: their numbers, (batch,).
            step: of the training.
        """
        down, right = self.offsets(rows, step)
        mirrored = self.mirrored(rows, step) if self.mirror else None
        return tuple(
            x if plane is None else shift(x, plane, down, right, mirrored)
            for x, plane in zip(inputs, self.planes, strict=True)
        )

    def offsets(self, rows: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """How far each row is moved down and to the right in this step, (batch,) each."""
        noise = mixed(rows + mixed_number(self.seed, step))
        ways = 2 * self.pixels + 1
        down = noise % ways - self.pixels
        noise = noise // ways
        right = noise % ways - self.pixels
        moved = self._moved(noise)
        return down * moved, right * moved

    def mirrored(self, rows: Tensor, step: int) -> Tensor:
        """Which rows are seen in the mirror in this step, (batch,), bool."""
        noise = mixed(rows + mixed_number(self.seed ^ _MIRROR, step))
        return (noise % 2 == 1) & self._moved(noise // 2)

    def _moved(self, noise: Tensor) -> Tensor:
        return mixed(noise) < int(self.share * (_MASK + 1))


def shift(x: Tensor, plane: Plane, down: Tensor, right: Tensor, mirrored: Tensor | None = None) -> Tensor:
    """Each image moved by its own whole number of pixels; the values of the border fill the rest.

    Args:
        x: (batch, ...) with the values of `plane` in its order.
        plane: how the image lies in a row.
        down: pixels by row, (batch,); negative: up.
        right: pixels by row, (batch,); negative: left.
        mirrored: which rows are then mirrored, left for right, (batch,), bool; None: none.
    """
    lines = _sources(plane.height, down)
    columns = _sources(plane.width, right)
    if mirrored is not None:
        columns = torch.where(mirrored.unsqueeze(1), columns.flip(1), columns)
    places = (lines.unsqueeze(2) * plane.width + columns.unsqueeze(1)).flatten(1)
    if plane.channels_last:
        images = x.reshape(len(x), plane.height * plane.width, plane.channels)
        picked = images.gather(1, places.unsqueeze(2).expand(-1, -1, plane.channels))
    else:
        images = x.reshape(len(x), plane.channels, plane.height * plane.width)
        picked = images.gather(2, places.unsqueeze(1).expand(-1, plane.channels, -1))
    return picked.reshape(x.shape)


def _sources(length: int, offset: Tensor) -> Tensor:
    """Where each place along an axis takes its value from, (batch, length)."""
    return (torch.arange(length, device=offset.device) - offset.unsqueeze(1)).clamp_(0, length - 1)


def mixed(numbers: Tensor) -> Tensor:
    """Numbers below 2^32 that look random, from whole numbers; int64, elementwise.

    An integer hash with two multiplications (Wellons, "Prospecting for hash functions", lowbias32).
    """
    x = numbers & _MASK
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


def mixed_number(seed: int, step: int) -> int:
    """A number below 2^32 that stands for a seed and a step."""
    return int(mixed(mixed(torch.tensor(seed)) + step))
