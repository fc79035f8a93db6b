"""The figure of merit and the loss of a model on held-out rows, measured in onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime
import torch

from prune_engine.data.prepared import Prepared
from prune_engine.data.rows import Rows
from prune_engine.data.running import batch_slices, run_batch
from prune_engine.data.scoring import as_columns, predicted_classes
from prune_engine.errors import VerificationError
from prune_engine.measure.runtime import run_session
from prune_engine.report import Quality
from prune_engine.training.losses import class_scores, distillation_loss, task_loss

Array = np.ndarray[Any, Any]


def measure_quality(
    runtime: onnxruntime.InferenceSession,
    rows: Rows,
    prepared: Prepared,
    dense: onnxruntime.InferenceSession | None = None,
) -> Quality:
    """Accuracy in %, an error in the label's unit, or how close the outputs are to the dense model's.

    Args:
        runtime: the model to measure.
        rows: what to measure on.
        prepared: the task.
        dense: the dense model; needed for distillation only.

    Returns:
        `value` by `prepared.metric`: accuracy or agreement (share of rows whose largest output is the same
        as the dense model's) in %; mean squared or absolute error in the label's unit; or `relative_error`,
        the root of squared error over the dense outputs' variance, over all floating-point outputs. `loss`:
        mean over the rows of the cross-entropy, of the error in the label's unit, of the KL divergence at
        temperature 1, or the squared relative error.

    Raises:
        VerificationError: the model gives NaN or infinity.
    """
    if prepared.task == "distillation":
        if dense is None:
            raise TypeError("distillation is measured against the dense model; give its session")
        return _against_dense(runtime, dense, rows, prepared)
    value = loss = 0.0
    for part, feed in feeds(rows, prepared):
        count = part.stop - part.start
        output = prediction(runtime, feed, count, prepared)
        labels = rows.labels[part].cpu() if rows.labels is not None else None
        if labels is None:
            raise TypeError("rows without labels can be measured by distillation only")
        if prepared.task == "classification":
            known = prepared.outputs_are == "probabilities"
            hits = predicted_classes(output, probabilities=known) == labels.numpy()
            value += 100.0 * float(hits.sum())
            loss += count * float(task_loss(torch.from_numpy(output), labels, prepared))
        else:
            scale = prepared.target_scale
            difference = scale.to_labels(output) - scale.to_labels(labels.numpy())
            error = np.abs(difference) if prepared.loss == "mae" else difference**2
            value += count * float(error.mean())
            loss += count * float(error.mean())
    return Quality(value=value / len(rows), loss=loss / len(rows), rows=len(rows))


def feeds(rows: Rows, prepared: Prepared) -> Iterator[tuple[slice, dict[str, Array]]]:
    """The rows in batches as the model's graph takes them."""
    for part in batch_slices(len(rows), prepared.fixed_batch, rows.row_bytes):
        yield part, rows.feed(part)


def prediction(
    runtime: onnxruntime.InferenceSession, feed: dict[str, Array], count: int, prepared: Prepared
) -> Array:
    """The output that is the prediction, float32 (count, ...)."""
    return _finite(outputs(runtime, feed, prepared)[prepared.output_index], count)


def outputs(runtime: onnxruntime.InferenceSession, feed: dict[str, Array], prepared: Prepared) -> list[Array]:
    """All outputs for one batch, also where the graph demands a larger one."""
    return run_batch(
        lambda full: run_session(runtime, full), list(feed), list(feed.values()), prepared.fixed_batch
    )


def _against_dense(
    runtime: onnxruntime.InferenceSession,
    dense: onnxruntime.InferenceSession,
    rows: Rows,
    prepared: Prepared,
) -> Quality:
    agreeing = divergence = 0.0
    spread = _Spread()
    for part, feed in feeds(rows, prepared):
        count = part.stop - part.start
        ours, theirs = outputs(runtime, feed, prepared), outputs(dense, feed, prepared)
        if prepared.loss == "cross_entropy":
            pair = [torch.from_numpy(_finite(one[prepared.output_index], count)) for one in (ours, theirs)]
            divergence += count * float(distillation_loss(pair[0], pair[1], prepared, 1.0))
            classes = [class_scores(one, prepared).argmax(dim=1) for one in pair]
            agreeing += 100.0 * float((classes[0] == classes[1]).sum())
        else:
            for position, (one, teacher) in enumerate(zip(ours, theirs, strict=True)):
                if teacher.dtype.kind == "f" and teacher.ndim and len(teacher) == count:
                    spread.add(position, _finite(one, count), teacher)
    if prepared.loss == "cross_entropy":
        return Quality(value=agreeing / len(rows), loss=divergence / len(rows), rows=len(rows))
    squared = spread.relative()
    return Quality(value=squared**0.5, loss=squared, rows=len(rows))


class _Spread:
    """Sums for squared error over variance, per output, without keeping the outputs."""

    def __init__(self) -> None:
        self._sums: dict[int, list[float]] = {}

    def add(self, output: int, ours: Array, theirs: Array) -> None:
        a, b = as_columns(ours), as_columns(theirs)
        sums = self._sums.setdefault(output, [0.0, 0.0, 0.0, 0.0])
        for index, value in enumerate((((a - b) ** 2).sum(), b.sum(), (b**2).sum(), b.size)):
            sums[index] += float(value)

    def relative(self) -> float:
        """Mean over the outputs of squared error / variance of the dense model's."""
        ratios = []
        for error, total, squares, count in self._sums.values():
            variance = max(squares / count - (total / count) ** 2, 1e-12)
            ratios.append(error / count / variance)
        return float(np.mean(ratios)) if ratios else 0.0


def _finite(output: Array, count: int) -> Array:
    if not np.isfinite(output).all():
        raise VerificationError(
            "the model gives NaN or infinity on held-out rows; check the preprocessing and the model in "
            "onnxruntime"
        )
    if output.ndim == 0 or len(output) != count:
        raise VerificationError(f"the model gives {output.shape} for {count} rows; one entry a row is needed")
    return output.astype(np.float32, copy=False)
