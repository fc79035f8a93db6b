"""`prepare`: data and dense model together become rows to train on, rows to measure with, and the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from prune_engine.data.choosing import (
    Attempt,
    choose,
    first_that_runs,
    input_dtype,
    starting_attempts,
)
from prune_engine.data.matching import match_inputs
from prune_engine.data.raw import Array, RawData, Split
from prune_engine.data.rows import Rows
from prune_engine.data.running import DenseRun
from prune_engine.data.split import split_rows
from prune_engine.data.targets import TargetScale, find_scale
from prune_engine.data.task import (
    LossName,
    Output,
    OutputsAre,
    Plan,
    TaskName,
    check_label_range,
    metric_of,
    outputs_are,
    plan_task,
)
from prune_engine.data.transform import to_tensor
from prune_engine.data.trial import MAX_ROWS, Trial
from prune_engine.report import DataInfo, Metric, PreprocessInfo, TensorInfo
from prune_engine.spec import PruneSpec


@dataclass(frozen=True)
class Prepared:
    """Everything about the data that training and measuring need.

    Args:
        task: what is learned; `distillation`: the dense model's outputs.
        loss: the task's loss.
        metric: the figure of merit.
        train: rows to train on.
        holdout: rows to measure with; nothing was chosen on them.
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


def prepare(
    raw: RawData,
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    run_dense: DenseRun,
    spec: PruneSpec,
) -> Prepared:
    """Match data and model, decide the task, hold rows out, choose the preprocessing, check everything.

    Args:
        raw: the data as sent.
        inputs: of the model's graph.
        outputs: of the model's graph.
        run_dense: runs the dense model in onnxruntime: arrays by input name -> all outputs in order.
        spec: `task`, `loss`, `preprocess`, `holdout`, `seed` and `max_length` matter.

    Raises:
        ShapeMismatchError, NotFiniteError, LabelRangeError, TooFewSamplesError, PreprocessError, SpecError,
        DataError: each says what was wrong, where, and what to do.
    """
    if raw.kind == "text":
        from prune_engine.data.text import tokenise

        raw = tokenise(raw, inputs)
    raw, unused = match_inputs(raw, inputs)
    by_class = (
        raw.train.labels is not None and _looks_like_classes(raw.train.labels) and spec.task != "regression"
    )
    share = None if spec.holdout == "auto" else spec.holdout
    train, holdout, how = split_rows(raw, share, spec.seed, by_class=by_class)
    trial = _trial(train, inputs, run_dense, spec.seed)
    attempts = starting_attempts(trial, None if spec.preprocess == "auto" else spec.preprocess)
    running, probe = first_that_runs(trial, attempts)
    names = [info.name for info in outputs]
    plan = plan_task(train.labels, [Output(n, v) for n, v in zip(names, probe, strict=True)], spec)
    sample = probe[plan.output_index]
    labels = plan.labels(train.labels, sample), plan.labels(holdout.labels, sample)
    for where, part in zip(("training", "held-out"), labels, strict=True):
        if part is not None:
            check_label_range(part, plan, names[plan.output_index], where)
    best, preprocess, notes = _choose(trial, attempts, running, plan, spec)
    shown = trial.outputs(best.transforms, MAX_ROWS)[plan.output_index]
    target_scale, scale_note = TargetScale(), None
    if plan.task == "regression" and labels[0] is not None and trial.labels is not None:
        if spec.preprocess == "auto":
            target_scale, scale_note = find_scale(shown, trial.labels[: len(shown)], labels[0])
        labels = (
            target_scale.to_output(labels[0]),
            labels[1] if labels[1] is None else target_scale.to_output(labels[1]),
        )
    train_rows, holdout_rows = (
        Rows(
            [to_tensor(split.inputs[info.name]) for info in inputs],
            best.transforms,
            None if part is None else torch.from_numpy(part),
            [info.name for info in inputs],
        )
        for split, part in zip((train, holdout), labels, strict=True)
    )
    warnings = (*raw.warnings, *unused, *plan.warnings, *notes, *([scale_note] if scale_note else []))
    return Prepared(
        task=plan.task,
        loss=plan.loss,
        metric=metric_of(plan, raw.target),
        train=train_rows,
        holdout=holdout_rows,
        info=DataInfo(
            name=raw.name,
            source=raw.source,
            kind=raw.kind,
            task=plan.task,
            train_rows=len(train),
            holdout_rows=len(holdout),
            holdout_source=how,
            classes=plan.classes,
            preprocess=preprocess,
        ),
        output_index=plan.output_index,
        outputs_are=outputs_are(shown, plan),
        classes=plan.classes,
        loss_scale=_loss_scale(plan, labels[0]),
        target_scale=target_scale,
        fixed_batch=trial.fixed,
        warnings=warnings,
    )


def _trial(train: Split, inputs: Sequence[TensorInfo], run: DenseRun, seed: int) -> Trial:
    """The dense model with at most 1,000 training rows, chosen by the seed."""
    chosen = np.random.default_rng(seed).permutation(len(train))[:MAX_ROWS]
    sample = train.take(chosen)
    for info in inputs:
        input_dtype(info)
    return Trial(run, inputs, [to_tensor(sample.inputs[info.name]) for info in inputs], sample.labels)


def _choose(
    trial: Trial, attempts: list[Attempt], running: Attempt, plan: Plan, spec: PruneSpec
) -> tuple[Attempt, PreprocessInfo, list[str]]:
    """The preprocessing, what the report says of it, and warnings."""
    if spec.preprocess != "auto":
        info = PreprocessInfo(name="as asked", chosen=running.preprocess, why="set in the request")
        return running, info, []
    if plan.task == "distillation":
        why = "without labels no scaling can be compared with another; the simplest one that the model takes"
        info = PreprocessInfo(name=running.name, chosen=running.preprocess, why=why)
        guessed = running.preprocess.scale != 1.0
        note = (
            f"Without labels the scaling could not be checked; taken: {running.name}. "
            f"If the model was trained with another one, set preprocess."
        )
        return running, info, [note] if guessed else []
    best, info = choose(trial, attempts, plan)
    weak = plan.task == "classification" and best.score is not None and best.score.value < 50
    note = (
        f"The dense model is weak even with the best preprocessing found ({info.why}); "
        f"if that is wrong, set preprocess."
    )
    return best, info, [note] if weak else []


def _looks_like_classes(labels: Array) -> bool:
    """Whether the split may be stratified: one whole number a row, few of them."""
    if labels.size != len(labels) or labels.dtype.kind not in "biu":
        return False
    return len(np.unique(labels)) <= max(2, len(labels) // 2)


def _loss_scale(plan: Plan, labels: Array | None) -> float:
    if plan.task != "regression" or labels is None:
        return 1.0
    flat = labels.reshape(len(labels), -1).astype(np.float64)
    error = np.abs(flat - np.median(flat, axis=0)).mean() if plan.loss == "mae" else flat.var(axis=0).mean()
    return float(1 / error) if error > 0 else 1.0
