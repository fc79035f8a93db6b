"""Units of equal size (blocks, groups of an n:m pattern) found in the flat tensor of all gated weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from prune_engine.gates.fitting import MatrixWeight
from prune_engine.gates.layout import Layout
from prune_engine.granularity import Blocks, Granularity, Patterns


def unit_view(values: np.ndarray[Any, Any], weight: MatrixWeight, granularity: Granularity) -> np.ndarray:
    """The values of a weight that fits as [units, values of a unit].

    Units are outputs by inputs at one place of the kernel, in the order of outputs, places, inputs.
    """
    rows, columns = 1, 1
    if isinstance(granularity, Patterns):
        columns = granularity.m
    elif isinstance(granularity, Blocks):
        rows, columns = granularity.rows, granularity.columns
    if rows * columns == 1:
        return values.reshape(-1, 1)
    assert weight.input_axis is not None  # noqa: S101 - else it does not fit
    matrix = np.moveaxis(values, (weight.output_axis, weight.input_axis), (0, -1))
    outputs, places, inputs = matrix.shape[0], matrix.shape[1:-1], matrix.shape[-1]
    cut = matrix.reshape(outputs // rows, rows, -1, inputs // columns, columns)
    assert cut.shape[2] == int(np.prod(places, dtype=np.int64))  # noqa: S101 - as the layout has it
    return cut.transpose(0, 2, 3, 1, 4).reshape(-1, rows * columns)


class Units:
    """Moves values between the flat tensor of the gated weights and their units, in one kernel each.

    Where the units lie one after the other in the flat tensor nothing is moved at all.

    Args:
        layout: which weights there are; all fit.
        device: of the flat tensor.
    """

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self.count, self.size = layout.units, layout.size
        self._members: Tensor | None = None
        self._places: Tensor | None = None
        self._of: Tensor | None = None
        if self.size == 1:
            return
        members = _members(layout)
        self._in_order = bool(np.array_equal(members.ravel(), np.arange(members.size)))
        places = np.empty(members.size, np.int32)
        places[members.ravel()] = np.arange(members.size, dtype=np.int32)
        self._of = torch.from_numpy(places // self.size).to(device)
        if not self._in_order:
            self._members = torch.from_numpy(members.ravel().astype(np.int32)).to(device)
            self._places = torch.from_numpy(places).to(device)

    def gather(self, flat: Tensor) -> Tensor:
        """Flat values as [units, size]; a view where they are in order."""
        found = flat if self._members is None else flat.index_select(0, self._members)
        return found.view(self.count, self.size)

    def scatter(self, values: Tensor) -> Tensor:
        """Values [units, size] as a flat tensor; a view where they are in order."""
        found = values.reshape(-1)
        return found if self._places is None else found.index_select(0, self._places)

    def expand(self, values: Tensor) -> Tensor:
        """One value a unit, [units], for every weight of the unit: flat."""
        return values if self._of is None else values.index_select(0, self._of)

    def norms(self, flat: Tensor) -> Tensor:
        """The root of the sum of squares of each unit, [units]; of single weights their magnitude."""
        return flat.abs() if self.size == 1 else self.gather(flat).square().sum(1).sqrt()


def _members(layout: Layout) -> np.ndarray:
    """The flat places of each unit's weights, [units, size]."""
    parts, start = [], 0
    for weight in layout.weights:
        count = int(np.prod(weight.shape, dtype=np.int64))
        places = np.arange(start, start + count, dtype=np.int64).reshape(weight.shape)
        parts.append(unit_view(places, weight, layout.granularity))
        start += count
    return np.concatenate(parts)
