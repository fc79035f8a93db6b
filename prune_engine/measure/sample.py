"""Rows to measure a model with where there are no data: made up, in the shapes that its inputs allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from prune_engine.data.transform import DTYPES
from prune_engine.report import TensorInfo

# Sizes that open dimensions are tried with, in this order: enough for five halvings, then what images have.
_OPEN_IMAGE = (64, 224, 32, 128)
_OPEN = (32, 16, 128, 8, 1)


def sample_rows(inputs: Sequence[TensorInfo], rows: int) -> Iterator[dict[str, Tensor]]:
    """Inputs by name, with one guess after another for the dimensions that the file leaves open.

    Floats are standard normal, integers 0 (which every table of indices has), masks 1. Dimensions of one name
    get one size. Nothing for inputs of a type that no data can have, or of unknown rank.

    Args:
        inputs: of the graph.
        rows: size of the first dimension where it is open.
    """
    if any(info.dtype not in DTYPES for info in inputs):
        return
    guesses = _OPEN_IMAGE if any(len(info.shape) >= 4 for info in inputs) else _OPEN
    tried: set[tuple[tuple[int, ...], ...]] = set()
    for guess in guesses:
        shapes = tuple(tuple(_sizes(info, rows, guess)) for info in inputs)
        if shapes not in tried:
            tried.add(shapes)
            yield {info.name: _values(info, shape) for info, shape in zip(inputs, shapes, strict=True)}


def guessed(inputs: Sequence[TensorInfo]) -> list[str]:
    """The open dimensions beside the batch, in words: `height of 'x'`."""
    return [
        f"{dim or f'dimension {place}'} of '{info.name}'"
        for info in inputs
        for place, dim in enumerate(info.shape)
        if place and not isinstance(dim, int)
    ]


def _sizes(info: TensorInfo, rows: int, guess: int) -> Iterator[int]:
    for place, dim in enumerate(info.shape):
        if isinstance(dim, int) and dim > 0:
            yield dim
        elif place == 0:
            yield rows
        else:
            yield 3 if place == 1 and len(info.shape) == 4 else guess


def _values(info: TensorInfo, shape: Sequence[int]) -> Tensor:
    dtype = DTYPES[info.dtype]
    if dtype.is_floating_point:
        return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0)).to(dtype)
    return (torch.ones if "mask" in info.name.lower() else torch.zeros)(tuple(shape), dtype=dtype)
