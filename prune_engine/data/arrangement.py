"""Where the values of a row go: how data of one shape can become the shape that a model's input asks for.

Images come as (height, width), (height, width, channels) or (channels, height, width), models want channels
first, channels last, or everything flat; grey becomes RGB and RGB grey where the model's shape asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from prune_engine.spec import Layout

Dim = int | str | None
Order = Literal["hw", "hwc", "chw", "lc", "cl", "plain", "packed_chw", "packed_hwc"]
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's "L"
CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Arrangement:
    """One way from the data's rows to the model's.

    Args:
        order: what the axes of a row as sent mean.
        layout: what they become.
        channels: channels after conversion; None where there is no channel axis.
        shape: shape of a row as the model gets it.
        packed: (height, width) of images that were sent flat.
    """

    order: Order
    layout: Layout
    channels: int | None
    shape: tuple[int, ...]
    packed: tuple[int, int] | None = None

    def spread(self, rows: Tensor) -> Tensor:
        """Channels moved to axis 1 and converted, (rows, channels, ...); plain rows stay as they are."""
        if self.packed is not None:
            height, width = self.packed
            channels = rows[0].numel() // (height * width)
            rows = (
                rows.reshape(-1, channels, height, width)
                if self.order == "packed_chw"
                else rows.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
            )
        elif self.order == "hw":
            rows = rows.unsqueeze(1)
        elif self.order == "hwc":
            rows = rows.permute(0, 3, 1, 2)
        elif self.order == "lc":
            rows = rows.permute(0, 2, 1)
        return rows if self.channels is None else _convert(rows, self.channels)

    def gather(self, rows: Tensor) -> Tensor:
        """From what `spread` gave to the model's shape."""
        channels_last = self.layout in ("nhwc", "flat_nhwc")
        if self.channels is not None and channels_last:
            rows = rows.movedim(1, -1)
        return rows.reshape(len(rows), *self.shape).contiguous()

    @property
    def text(self) -> str:
        """In words, for the report: `NHWC -> NCHW, grey -> RGB`."""
        names = {
            "hw": "NHW",
            "hwc": "NHWC",
            "chw": "NCHW",
            "lc": "NLC",
            "cl": "NCL",
            "plain": "as sent",
            "packed_chw": "flat",
            "packed_hwc": "flat",
        }
        return names[self.order] if self.layout == "as_is" else f"{names[self.order]} -> {self.layout}"


def arrangements(row: Sequence[int], wanted: Sequence[Dim] | None) -> list[Arrangement]:
    """All ways from rows of shape `row` to the model's row shape, the likeliest first, without duplicates.

    Args:
        row: shape of a row as sent.
        wanted: the model's shape without the batch axis; names and None fit anything. None: unknown.
    """
    if wanted is None:
        return [Arrangement("plain", "as_is", None, tuple(row))]
    wanted = [None if dim in (0, -1) else dim for dim in wanted]
    found: list[Arrangement] = []
    effects: list[Tensor] = []
    probe = torch.arange(math.prod(row), dtype=torch.float64).reshape(1, *row)
    for one in _possible(tuple(row), wanted):
        if not fits(one.shape, wanted):
            continue
        effect = one.gather(one.spread(probe))
        if not any(torch.equal(effect, other) for other in effects):
            effects.append(effect)
            found.append(one)
    same_size = [one for one in found if math.prod(one.shape) == math.prod(row)]
    return same_size or found


def fits(shape: Sequence[int], wanted: Sequence[Dim]) -> bool:
    """Whether every dimension is equal where the model names a number (0 and -1 mean any, in old files)."""
    return len(shape) == len(wanted) and all(
        not isinstance(want, int) or want in (have, 0, -1) for have, want in zip(shape, wanted, strict=True)
    )


def with_layout(row: Sequence[int], wanted: Sequence[Dim] | None, layout: Layout) -> list[Arrangement]:
    """The arrangements that end in exactly this layout."""
    if wanted is None:
        return arrangements(row, wanted)
    possible = [one for one in _possible(tuple(row), wanted) if fits(one.shape, wanted)]
    return [one for one in possible if one.layout == layout]


def _possible(row: tuple[int, ...], wanted: Sequence[Dim]) -> Iterator[Arrangement]:
    images = list(_images(row, wanted))
    definite = all(isinstance(dim, int) for dim in wanted)
    for order, (height, width, channels), packed in images:
        for out in _conversions(channels):
            yield Arrangement(order, "nchw", out, (out, height, width), packed)
            yield Arrangement(order, "nhwc", out, (height, width, out), packed)
            if packed is None:
                yield Arrangement(order, "flat", out, (out * height * width,))
                yield Arrangement(order, "flat_nhwc", out, (out * height * width,))
            if out == 1:
                yield Arrangement(order, "as_is", out, (height, width), packed)
    yield Arrangement("plain", "as_is", None, row)
    if len(row) == 2 and row[0] != row[1]:
        yield Arrangement("lc", "nchw", row[1], (row[1], row[0]))
        yield Arrangement("lc", "flat_nhwc", row[1], (row[0] * row[1],))
        yield Arrangement("cl", "nhwc", row[0], (row[1], row[0]))
    if definite:
        shape = tuple(int(dim) for dim in wanted if isinstance(dim, int))
        if math.prod(shape) == math.prod(row) and len(shape) != len(row):
            yield Arrangement("plain", "as_is", None, shape)


def _images(
    row: tuple[int, ...], wanted: Sequence[Dim]
) -> Iterator[tuple[Order, tuple[int, int, int], tuple[int, int] | None]]:
    """Every way to see a row as an image: the order, (height, width, channels) and the packed size."""
    if len(row) == 2:
        yield "hw", (row[0], row[1], 1), None
    elif len(row) == 3:
        if row[2] in CHANNELS:
            yield "hwc", (row[0], row[1], row[2]), None
        if row[0] in CHANNELS:
            yield "chw", (row[1], row[2], row[0]), None
    elif len(row) == 1 and len(wanted) in (2, 3) and all(isinstance(dim, int) for dim in wanted):
        sizes = [dim for dim in wanted if isinstance(dim, int)]
        height, width = (sizes[1], sizes[2]) if len(sizes) == 3 and sizes[0] in CHANNELS else sizes[:2]
        channels, rest = divmod(row[0], height * width) if height * width else (0, 1)
        if rest == 0 and channels in CHANNELS:
            yield "packed_chw", (height, width, channels), (height, width)
            if channels > 1:
                yield "packed_hwc", (height, width, channels), (height, width)


def _conversions(channels: int) -> tuple[int, ...]:
    return {1: (1, 3), 3: (3, 1), 4: (4, 3, 1)}[channels]


def _convert(rows: Tensor, channels: int) -> Tensor:
    """(rows, c, ...) -> (rows, channels, ...): grey is repeated, RGB weighted (BT.601), alpha dropped."""
    have = rows.shape[1]
    if have == channels:
        return rows
    if have == 1:
        return rows.expand(-1, channels, *rows.shape[2:])
    rows = rows[:, :3]
    if channels == 1:
        weights = torch.tensor(_LUMA, dtype=rows.dtype, device=rows.device)
        return (rows * weights.view(1, 3, *[1] * (rows.ndim - 2))).sum(dim=1, keepdim=True)
    return rows
