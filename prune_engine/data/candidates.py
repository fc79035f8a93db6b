"""The scalings that models are usually trained with, as candidates for `preprocess: auto`, the simplest
first."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from prune_engine.data.arrangement import Arrangement
from prune_engine.data.transform import IDENTITY, Transform
from prune_engine.spec import Preprocess

BYTE = 1 / 255
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
MNIST_MEAN, MNIST_STD = (0.1307,), (0.3081,)
_PIXELS = 16
_STATISTICS_VALUES = 30_000_000

Candidate = tuple[str, Preprocess]


def scalings(rows: Tensor, arrangement: Arrangement) -> list[Candidate]:
    """Names and preprocessings to try, without duplicates; the layout of each is the arrangement's.

    Args:
        rows: all training rows as sent; means and standard deviations are taken of them.
        arrangement: where their values go. Wide tables in [0, 255] may be images sent flat.
    """
    low, high = float(rows.min()), float(rows.max())
    if arrangement.channels is not None or arrangement.packed is not None or rows.dtype == torch.uint8:
        proposals = list(_image_scalings(rows, arrangement, low, high))
    else:
        proposals = [("as is", IDENTITY), *_column_scalings(rows, arrangement)]
        if rows.ndim == 2 and rows.shape[1] >= _PIXELS and low >= 0 and high <= 255:
            proposals += _image_scalings(rows, arrangement, low, high)
    unique: list[Candidate] = []
    for name, step in proposals:
        step = step.model_copy(update={"layout": arrangement.layout})
        if all(step != other for _, other in unique):
            unique.append((name, step))
    return unique


def _image_scalings(rows: Tensor, arrangement: Arrangement, low: float, high: float) -> Iterator[Candidate]:
    """Pixels are bytes, or floats in [0, 255], or in [0, 1], or already scaled in some other way."""
    bytes_like = rows.dtype == torch.uint8 or (low >= 0 and high > 2)
    unit = 1.0
    if bytes_like:
        unit = BYTE
        if high <= 17 and low >= 0:
            unit = 1 / 16
            yield "[0, 1] from [0, 16]", Preprocess(scale=unit)
            yield "[0, 1]", Preprocess(scale=BYTE)
            yield "[0, 16]", IDENTITY
        else:
            yield "[0, 1]", Preprocess(scale=unit)
            yield "[0, 255]", IDENTITY
    else:
        yield "as is", IDENTITY
        if low < 0 or high > 1:
            yield from _statistics(rows, arrangement, unit)
            return
    yield "[-1, 1]", Preprocess(scale=unit, mean=(0.5,), std=(0.5,))
    yield from _statistics(rows, arrangement, unit)
    channels = arrangement.channels
    if channels == 3:
        yield "ImageNet mean and std", Preprocess(scale=unit, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        yield "CIFAR-10's usual mean and std", Preprocess(scale=unit, mean=CIFAR_MEAN, std=CIFAR_STD)
    else:
        yield "MNIST's usual mean and std", Preprocess(scale=unit, mean=MNIST_MEAN, std=MNIST_STD)
    if len(arrangement.shape) == 1:
        yield from _column_scalings(rows, arrangement)


def _statistics(rows: Tensor, arrangement: Arrangement, unit: float) -> Iterator[Candidate]:
    """The data set's own mean and standard deviation: one for all, and one per channel."""
    ready = _some(rows).to(torch.float32)
    spread = arrangement.spread(ready)
    mean, std = float(spread.mean()) * unit, float(spread.std()) * unit
    if std <= 0:
        return
    if arrangement.channels in (None, 1):
        yield "the data's mean and std", Preprocess(scale=unit, mean=(mean,), std=(std,))
        return
    axes = [axis for axis in range(spread.ndim) if axis != 1]
    means, stds = spread.mean(dim=axes) * unit, spread.std(dim=axes) * unit
    if float(stds.min()) > 0:
        yield (
            "the data's mean and std by channel",
            Preprocess(scale=unit, mean=tuple(means.tolist()), std=tuple(stds.tolist())),
        )
    yield "the data's mean and std", Preprocess(scale=unit, mean=(mean,), std=(std,))


def _column_scalings(rows: Tensor, arrangement: Arrangement) -> Iterator[Candidate]:
    """Standardised and min-max scaled columns, as scikit-learn's scalers do it (constant columns: std 1)."""
    plain = Transform(arrangement, IDENTITY, torch.float64)
    ready = plain(_some(rows))
    if ready.ndim != 2 or ready.shape[1] == 0 or len(ready) < 2:
        return
    mean, std = ready.mean(dim=0), ready.std(dim=0, unbiased=False)
    std = torch.where(std > 0, std, torch.ones_like(std))
    yield "standardised columns", Preprocess(mean=tuple(mean.tolist()), std=tuple(std.tolist()))
    low, high = ready.amin(dim=0), ready.amax(dim=0)
    extent = torch.where(high > low, high - low, torch.ones_like(low))
    yield "columns in [0, 1]", Preprocess(mean=tuple(low.tolist()), std=tuple(extent.tolist()))


def _some(rows: Tensor) -> Tensor:
    """Evenly spaced rows where all together would be too much."""
    return rows[:: 1 + rows.numel() // _STATISTICS_VALUES]
