"""From rows as sent to rows as the model wants them: `(x * scale - mean) / std`, the layout, the dtype."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prune_engine.data.arrangement import Arrangement
from prune_engine.errors import SpecError
from prune_engine.spec import Preprocess

IDENTITY = Preprocess()
DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "float64": torch.float64,
    "int64": torch.int64,
    "int32": torch.int32,
    "int16": torch.int16,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "bool": torch.bool,
}
_NATIVE = frozenset(["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"])


@dataclass(frozen=True)
class Transform:
    """What is done to every row of one model input."""

    arrangement: Arrangement
    preprocess: Preprocess
    dtype: torch.dtype

    def __call__(self, rows: Tensor) -> Tensor:
        """(batch, *row as sent) -> (batch, *row of the model), on the rows' device."""
        step, arrangement = self.preprocess, self.arrangement
        arithmetic = (step.scale, step.mean, step.std) != (1.0, (0.0,), (1.0,))
        converts = arrangement.channels is not None
        if self.dtype.is_floating_point or arithmetic:
            rows = rows.to(torch.float64 if rows.dtype == torch.float64 else torch.float32)
        if converts or arrangement.packed is not None:
            rows = arrangement.spread(rows)
        by_value = max(len(step.mean), len(step.std)) > 1 and not self._by_channel
        if arithmetic and not by_value:
            rows = (rows * step.scale - self._spread(step.mean, rows)) / self._spread(step.std, rows)
        rows = arrangement.gather(rows)
        if arithmetic and by_value:
            rows = (rows * step.scale - _last_axis(step.mean, rows)) / _last_axis(step.std, rows)
        return rows.to(self.dtype)

    @property
    def _by_channel(self) -> bool:
        """Whether each mean belongs to a channel; otherwise to a column (the last axis)."""
        channels = self.arrangement.channels
        lengths = {len(self.preprocess.mean), len(self.preprocess.std)} - {1}
        return channels is not None and lengths == {channels}

    def _spread(self, values: tuple[float, ...], rows: Tensor) -> Tensor:
        tensor = torch.tensor(values, dtype=rows.dtype, device=rows.device)
        return tensor if len(values) == 1 else tensor.view(1, -1, *[1] * (rows.ndim - 2))

    def check(self) -> None:
        """See that `mean` and `std` have as many values as there are channels or columns.

        Raises:
            SpecError: they do not; `param` is "preprocess".
        """
        shape, channels = self.arrangement.shape, self.arrangement.channels
        allowed = sorted({1} | ({channels} if channels else set()) | ({shape[-1]} if shape else set()))
        for name, values in (("mean", self.preprocess.mean), ("std", self.preprocess.std)):
            if len(values) not in allowed:
                raise SpecError(
                    f"preprocess.{name} has {len(values)} values; rows of shape {shape} take "
                    f"{' or '.join(str(count) for count in allowed)}",
                    param="preprocess",
                )
        longer = {len(self.preprocess.mean), len(self.preprocess.std)} - {1}
        if len(longer) > 1:
            raise SpecError(
                "preprocess.mean and preprocess.std have different numbers of values", param="preprocess"
            )

    def bytes(self, rows: int) -> int:
        """Bytes that `rows` rows take when they are ready."""
        return rows * math.prod(self.arrangement.shape) * self.dtype.itemsize


def to_tensor(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor that shares the array's memory where torch knows its dtype; otherwise int64 or float32."""
    if array.dtype.name not in _NATIVE:
        array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)
    return torch.from_numpy(np.ascontiguousarray(array) if array.flags.writeable else array.copy())


def _last_axis(values: tuple[float, ...], rows: Tensor) -> Tensor:
    return torch.tensor(values, dtype=rows.dtype, device=rows.device)
