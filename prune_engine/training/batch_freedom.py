"""Whether a module computes the same at any batch size, though its file names one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from prune_engine.training.result import Trainable

_TOLERANCE = 1e-3  # relative; a row that meets its neighbours is off by far more


def runs_at_any_batch(module: Trainable, inputs: Sequence[Tensor], fixed: int) -> bool:
    """Compares one call on all rows with calls on `fixed` rows each.

    Args:
        module: computes as outside of training, and is left as it was set.
        inputs: twice `fixed` rows or more, a multiple of it.
        fixed: the batch size that the file names.
    """
    rows = len(inputs[0])
    if rows < 2 * fixed or rows % fixed:
        raise ValueError(f"{rows} rows do not tell whether a batch of {fixed} can be another")
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            pieces = [module(*(x[start : start + fixed] for x in inputs)) for start in range(0, rows, fixed)]
            whole = _whole(module, inputs)
    finally:
        module.train(was_training)
    if whole is None:
        return False
    expected = [torch.cat(parts) for parts in zip(*pieces, strict=True) if parts[0].dim()]
    found = [output for output in whole if output.dim()]
    return len(found) == len(expected) and all(map(_close, found, expected))


def _whole(module: Trainable, inputs: Sequence[Tensor]) -> Sequence[Tensor] | None:
    try:
        return module(*inputs)
    except Exception:  # noqa: BLE001  whatever the graph's kernels raise where sizes do not fit
        return None


def _close(found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    if not found.is_floating_point():
        return bool((found == expected).all())
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    return bool(torch.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE * scale, equal_nan=True))
