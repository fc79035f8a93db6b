"""`Prepared`: everything about the data that training and measuring need."""

from __future__ import annotations

from dataclasses import dataclass, field

from prune_engine.data.rows import Rows
from prune_engine.data.targets import TargetScale
from prune_engine.data.task import LossName, OutputsAre, TaskName
from prune_engine.report import DataInfo, Metric


@dataclass(frozen=True)
class Prepared:
    """Everything about the data that training and measuring need.

    Args:
        task: what is learned; `distillation`: the dense model's outputs.
        loss: the task's loss.
        metric: the figure of merit.
        train: rows to train on.
        holdout: rows to measure with; nothing was chosen on them.
        search: rows to search a density on, apart from both; None: there are none.
        info: for the report.
        output_index: which of the model's outputs is the prediction.
        outputs_are: what the dense model puts there: logits (or log-probabilities), probabilities, or
        numbers.
        classes: how many classes the model tells apart; None without classes.
        loss_scale: factor of the squared or absolute error in training, 1 / the error of the labels' mean.
        target_scale: label = output * scale + offset, where labels came on another scale than the outputs.
        fixed_batch: the batch size that the model's graph demands; None where any will do.
        warnings: for the report.
    """

    task: TaskName
    loss: LossName
    metric: Metric
    train: Rows
    holdout: Rows
    info: DataInfo
    output_index: int = 0
    outputs_are: OutputsAre = "logits"
    classes: int | None = None
    loss_scale: float = 1.0
    target_scale: TargetScale = field(default_factory=TargetScale)
    fixed_batch: int | None = None
    warnings: tuple[str, ...] = ()
    search: Rows | None = None
