"""How an image lies in a row of a model's input."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from prune_engine.data.arrangement import CHANNELS, Arrangement


@dataclass(frozen=True)
class Plane:
    """The image in a row, whatever the row's own shape: (channels, height, width), or channels last."""

    channels: int
    height: int
    width: int
    channels_last: bool = False


def plane_of(arrangement: Arrangement, raw: Tensor) -> Plane | None:
    """The image that `arrangement` makes of a row as sent; None where it is not known to be one.

    Args:
        arrangement: from the data's rows to the model's.
        raw: rows as sent; only their shape counts.
    """
    if not len(raw):
        return None
    if arrangement.channels is None:
        return _plane_as_sent(arrangement.shape if len(arrangement.shape) == 3 else tuple(raw.shape[1:]))
    shape = arrangement.spread(raw[:1].float()).shape
    if len(shape) != 4:
        return None
    _, channels, height, width = shape
    return Plane(channels, height, width, arrangement.layout in ("nhwc", "flat_nhwc"))


def _plane_as_sent(shape: tuple[int, ...]) -> Plane | None:
    """What a row of this shape shows where nothing but its shape was changed."""
    if len(shape) == 2:
        return Plane(1, *shape)
    if len(shape) == 3 and shape[0] in CHANNELS:
        return Plane(*shape)
    if len(shape) == 3 and shape[2] in CHANNELS:
        return Plane(shape[2], shape[0], shape[1], channels_last=True)
    return None
