"""Running the dense model over many rows, also where its graph has the batch size baked in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from prune_engine.report import TensorInfo

Array = np.ndarray[Any, Any]
DenseRun = Callable[[dict[str, Array]], list[Array]]

_BATCH = 256
_BATCH_BYTES = 64 << 20


def fixed_batch(inputs: Sequence[TensorInfo]) -> int | None:
    """The batch size that the graph demands; None where any will do."""
    sizes = [info.shape[0] for info in inputs if info.shape]
    numbers = [size for size in sizes if isinstance(size, int) and size > 0]
    return numbers[0] if numbers else None


def batch_slices(rows: int, fixed: int | None, row_bytes: int) -> Iterator[slice]:
    """Slices that cover the rows: of the graph's batch size, else of about 64 MiB and at most 256 rows."""
    size = fixed or max(1, min(_BATCH, _BATCH_BYTES // max(1, row_bytes)))
    for start in range(0, rows, size):
        yield slice(start, min(rows, start + size))


def filled(feed: Mapping[str, Array], fixed: int | None) -> dict[str, Array]:
    """The feed with its last row repeated up to the batch size that the graph demands."""
    return {
        name: np.concatenate([rows, np.repeat(rows[-1:], fixed - len(rows), axis=0)])
        if fixed is not None and 0 < len(rows) < fixed
        else rows
        for name, rows in feed.items()
    }


def run_batch(run: DenseRun, names: Sequence[str], arrays: Sequence[Array], fixed: int | None) -> list[Array]:
    """Outputs for one batch; a batch smaller than the graph demands is filled up and the rest cut off
    again."""
    rows = len(arrays[0])
    outputs = run(filled(dict(zip(names, arrays, strict=True)), fixed))
    if fixed is not None and rows < fixed:
        return [output[:rows] if output.ndim else output for output in outputs]
    return outputs
