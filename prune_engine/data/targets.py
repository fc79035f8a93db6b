"""Regression targets on another scale than the dense model's outputs: found out, and put right where it is
clear."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from prune_engine.data.raw import Array
from prune_engine.data.scoring import as_columns, correlation_score, r2_score
from prune_engine.errors import PreprocessError


@dataclass(frozen=True)
class TargetScale:
    """label = output * scale + offset, one pair per target column; `name` says it in words."""

    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)
    name: str = "as is"

    def to_output(self, labels: Array) -> Array:
        """Labels on the scale of the model's outputs, float32, same shape."""
        if self.name == "as is":
            return np.asarray(labels, dtype=np.float32)
        flat = (as_columns(labels) - np.array(self.offset)) / np.array(self.scale)
        return np.asarray(flat, dtype=np.float32).reshape(labels.shape)

    def to_labels(self, outputs: Array) -> Array:
        """Outputs in the label's unit, float64 (rows, targets)."""
        return np.asarray(as_columns(outputs) * np.array(self.scale) + np.array(self.offset))


def find_scale(output: Array, labels: Array, all_labels: Array) -> tuple[TargetScale, str | None]:
    """The scale on which the dense model's outputs predict the labels, and a warning where it is not `as is`.

    Tried after `as is`: standardised, scaled to [0, 1], and divided by a power of ten.

    Args:
        output: of the dense model, (rows, ...).
        labels: of the same rows, as sent.
        all_labels: of all training rows, for their mean, spread and range.

    Raises:
        PreprocessError: output and labels are correlated, but none of these scales fits; gives the line
        found.
    """
    if r2_score(output, labels) > 0:
        return TargetScale(), None
    best, best_r2 = TargetScale(), 0.0
    for scale in _scales(output, labels, all_labels):
        r2 = r2_score(scale.to_labels(output), labels)
        if r2 > best_r2 + 1e-6:
            best, best_r2 = scale, r2
    reachable = correlation_score(output, labels)
    if best_r2 < reachable - 0.1 or best_r2 <= 0:
        slope, offset = _line(output, labels)
        raise PreprocessError(
            "the labels are on another scale than the dense model's outputs: labels are about "
            f"{slope:.4g} * output "
            f"{offset:+.4g} (r2 {reachable:.3f}); send them on the scale with which the model was trained",
            param="dataset",
        )
    return best, (
        "The labels are on another scale than the dense model's outputs, which fit labels that are "
        f"{best.name} "
        f"(R2 {best_r2:.3f} then); training uses that scale, errors are reported in the label's own unit."
    )


def _scales(output: Array, labels: Array, all_labels: Array) -> Iterator[TargetScale]:
    columns = as_columns(all_labels)
    mean, std = columns.mean(axis=0), columns.std(axis=0)
    low, extent = columns.min(axis=0), np.ptp(columns, axis=0)
    slope, _ = _line(output, labels)
    if slope > 0:
        power = round(float(np.log10(slope)))
        yield TargetScale((10.0**power,), (0.0,), f"divided by 1e{power}")
    if (std > 0).all():
        yield TargetScale(tuple(std.tolist()), tuple(mean.tolist()), "standardised")
        yield TargetScale(tuple(extent.tolist()), tuple(low.tolist()), "scaled to [0, 1]")


def _line(output: Array, labels: Array) -> tuple[float, float]:
    """Least squares over all columns together: label = slope * output + offset."""
    x, y = as_columns(output).ravel(), as_columns(labels).ravel()
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread if spread > 0 else 0.0
    return slope, float(y.mean() - slope * x.mean())
