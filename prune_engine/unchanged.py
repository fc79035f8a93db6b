"""The check of a run in which no weight is trained: what is kept has the bits that it started with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from prune_engine.formats import OnnxModule, read_values, write_back
from prune_engine.report import Check


def starting_model(
    original: onnx.ModelProto, module: OnnxModule, start: Mapping[str, np.ndarray] | None
) -> onnx.ModelProto:
    """The file with the values that training starts from.

    Args:
        original: as sent.
        module: made of it; not trained yet.
        start: fresh values by name, float32; None: those of the file.
    """
    if start is None:
        return original
    types = {name: value.dtype for name, value in module.state_values().items()}
    return write_back(original, {name: value.astype(types[name]) for name, value in start.items()})


def values_unchanged(
    started: onnx.ModelProto, pruned: onnx.ModelProto, module: OnnxModule, masks: Mapping[str, np.ndarray]
) -> Check:
    """Compare what the file stores: every parameter's bits, without the weights that the mask leaves out."""
    names = list(module.weights)
    before, after = (read_values(proto, names, as_stored=True) for proto in (started, pruned))
    differing = {
        name: count
        for name in names
        if (count := _differing(before[name], after[name], masks.get(name, np.True_)))
    }
    values = sum(value.size for value in after.values())
    said = f"{sum(differing.values())} of {values} values are neither what they started as nor pruned"
    if differing:
        said += f", the first in {next(iter(differing))!r}"
    return Check(name="no weight is trained", passed=not differing, detail=said)


def _differing(before: np.ndarray, after: np.ndarray, kept: np.ndarray | np.bool_) -> int:
    bits = [np.ascontiguousarray(value).view(f"u{value.itemsize}") for value in (before, after)]
    return int(np.count_nonzero((bits[0] != bits[1]) & kept))
