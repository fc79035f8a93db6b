"""How long to train where the user leaves it open: batch size and epochs.

The choice uses only the size of the task, never a clock, so that the same request gives the same result.
"""

from __future__ import annotations

from prune_engine.spec import Effort

STEPS: dict[Effort, int] = {"quick": 1_500, "standard": 5_000, "thorough": 15_000}
"""Training steps that are aimed at."""

OPERATIONS: dict[Effort, float] = {"quick": 6e12, "standard": 2.4e13, "thorough": 1.2e14}
"""Multiply-adds, forward and backward, that may be spent on a CPU."""

CUDA_FACTOR = 100.0
LARGEST_BATCH = 128
SMALLEST_BATCH = 16


def choose_batch_size(rows: int) -> int:
    """128 rows, fewer where an epoch would have fewer than 16 steps."""
    batch = LARGEST_BATCH
    while batch > SMALLEST_BATCH and rows // batch < 16:
        batch //= 2
    return max(min(batch, rows), 1)


def choose_epochs(
    effort: Effort, steps_per_epoch: int, batch_size: int, row_operations: int | None, device: str
) -> tuple[int, str]:
    """Epochs for `effort`, and why in words.

    Small data sets need many epochs to reach the number of steps that pruning needs; large models get as
    many as their arithmetic allows.

    Args:
        effort: quick, standard or thorough.
        steps_per_epoch: training steps an epoch.
        batch_size: rows a step.
        row_operations: multiply-adds of one row forward; None: not known, no bound.
        device: "cpu" or "cuda".
    """
    wanted = STEPS[effort]
    why = f"{effort}: about {wanted} steps"
    steps = wanted
    if row_operations:
        allowed = OPERATIONS[effort] * (CUDA_FACTOR if device == "cuda" else 1.0)
        affordable = int(allowed / (3 * row_operations * batch_size))
        if affordable < steps:
            steps = affordable
            why = f"{effort}: bounded by {allowed:.2g} multiply-adds in all on {device}"
    return max(round(steps / steps_per_epoch), 1), why
