"""What would have helped, where much of the quality is lost and the training was a short one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prune_engine.report import QualityInfo
from prune_engine.spec import PruneSpec
from prune_engine.training.length import STEPS

POINTS = 1.0
SHARE = 0.05
"""From where on a loss is called much: points of a percentage, or a share of the dense model's error."""

FULL = 0.9
"""Of the steps that were planned: as many as make no difference."""


def about_length(spec: PruneSpec, settings: Mapping[str, Any], quality: QualityInfo) -> list[str]:
    """Nothing, or a sentence that says what cut the training and what to ask for instead.

    Args:
        spec: with a single density.
        settings: of the training, as the report has them.
        quality: what came of it.
    """
    if spec.epochs != "auto" or not settings["epochs"] or not _much_is_lost(quality):
        return []
    if settings["steps_done"] < FULL * settings["total_steps"]:
        return []  # `max_minutes` cut it, which is said elsewhere
    epochs, wanted = settings["epochs"], round(STEPS[spec.effort] / settings["steps_per_epoch"])
    if wanted <= epochs:
        return []
    had = f"{epochs} epoch" if epochs == 1 else f"{epochs} epochs"
    return [
        f"The training had {had} ({settings['epochs_why']}) where a smaller model would have had {wanted}, "
        "and much of the quality is lost. Longer trainings usually keep more of it: "
        f"epochs={wanted} takes about {wanted / epochs:.2g} times as long."
    ]


def _much_is_lost(quality: QualityInfo) -> bool:
    dense, pruned = quality.dense.value, quality.pruned.value
    lost = dense - pruned if quality.metric.higher_is_better else pruned - dense
    # Where the dense model has no error, as measured against itself, the unit is a share already.
    return lost > (POINTS if quality.metric.unit == "%" else SHARE * (abs(dense) or 1.0))
