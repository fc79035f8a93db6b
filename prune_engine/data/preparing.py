"""`prepare`: data and dense model together become rows to train on, rows to measure with, and the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prune_engine.data.choosing import (
    Attempt,
    choose,
    first_that_runs,
    input_dtype,
    own_standardisation,
    starting_attempts,
)
from prune_engine.data.matching import match_inputs
from prune_engine.data.prepared import Prepared
from prune_engine.data.raw import Array, RawData, Split
from prune_engine.data.rows import Rows
from prune_engine.data.running import DenseRun
from prune_engine.data.split import split_rows
from prune_engine.data.targets import TargetScale, find_scale
from prune_engine.data.task import Output, Plan, check_label_range, metric_of, outputs_are, plan_task
from prune_engine.data.transform import to_tensor
from prune_engine.data.trial import MAX_ROWS, Trial
from prune_engine.errors import PreprocessError
from prune_engine.report import DataInfo, PreprocessInfo, TensorInfo
from prune_engine.spec import PruneSpec

Labels = tuple[Array | None, Array | None]


@dataclass(frozen=True)
class Match:
    """Data and model as they go together, before any preprocessing is chosen.

    Args:
        train, holdout: the rows, under the names of the model's inputs.
        how: where the held-out rows are from.
        trial: the dense model with a sample of the training rows.
        attempts: the preprocessings to choose from.
        running: the first of them that the dense model takes.
        shown: the outputs of the dense model for a few rows of it.
        plan: the task.
        labels: of both splits, as training wants them.
        unused: warnings about arrays without a use.
    """

    train: Split
    holdout: Split
    how: str
    trial: Trial
    attempts: list[Attempt]
    running: Attempt
    shown: list[Output]
    plan: Plan
    labels: Labels
    unused: tuple[str, ...]

    def rows(self, count: int) -> tuple[Tensor, ...]:
        """The first `count` training rows (fewer where there are fewer), one tensor per model input."""
        with torch.no_grad():
            return tuple(
                transform(tensor[:count])
                for transform, tensor in zip(self.running.transforms, self.trial.train, strict=True)
            )


def match(
    raw: RawData,
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    run_dense: DenseRun,
    spec: PruneSpec,
) -> Match:
    """The first part of `prepare`, in seconds: everything that can be wrong with data beside their scaling.

    Arguments and errors are those of `prepare`, without PreprocessError.
    """
    numbers = {name for name, array in raw.train.inputs.items() if array.dtype.kind != "U"}
    if raw.kind == "text" and not numbers.issuperset(info.name for info in inputs):
        from prune_engine.data.text import tokenise

        raw = tokenise(raw, inputs)
    raw, unused = match_inputs(raw, inputs)
    train, holdout, how = _hold_out(raw, spec)
    trial = _trial(train, inputs, run_dense, spec.seed)
    attempts = starting_attempts(trial, None if spec.preprocess == "auto" else spec.preprocess)
    running, probe = first_that_runs(trial, attempts)
    shown = [Output(info.name, values) for info, values in zip(outputs, probe, strict=True)]
    plan = plan_task(train.labels, shown, spec)
    labels = _labels(train, holdout, plan, shown[plan.output_index])
    return Match(train, holdout, how, trial, attempts, running, shown, plan, labels, unused)


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
        spec: `task`, `loss`, `preprocess`, `holdout` and `seed` matter.

    Raises:
        ShapeMismatchError, NotFiniteError, LabelRangeError, TooFewSamplesError, PreprocessError, SpecError,
        DataError: each says what was wrong, where, and what to do.
    """
    begun = match(raw, inputs, outputs, run_dense, spec)
    train, holdout, trial, plan, labels = begun.train, begun.holdout, begun.trial, begun.plan, begun.labels
    best, preprocess, notes = _choose(trial, begun.attempts, begun.running, plan, spec)
    shown = trial.outputs(best.transforms, trial.rows_affordable(1))[plan.output_index]
    labels, target_scale, scale_note = _rescaled(labels, shown, trial, plan, spec)
    names = [info.name for info in inputs]
    train_rows, holdout_rows = (
        Rows(
            [to_tensor(split.inputs[name]) for name in names],
            best.transforms,
            None if part is None else torch.from_numpy(part),
            names,
        )
        for split, part in zip((train, holdout), labels, strict=True)
    )
    info = DataInfo(
        name=raw.name,
        source=raw.source,
        kind=raw.kind,
        task=plan.task,
        train_rows=len(train),
        holdout_rows=len(holdout),
        holdout_source=begun.how,
        classes=plan.classes,
        preprocess=preprocess,
    )
    return Prepared(
        task=plan.task,
        loss=plan.loss,
        metric=metric_of(plan, raw.target),
        train=train_rows,
        holdout=holdout_rows,
        info=info,
        output_index=plan.output_index,
        outputs_are=outputs_are(shown, plan),
        classes=plan.classes,
        loss_scale=_loss_scale(plan, labels[0]),
        target_scale=target_scale,
        fixed_batch=trial.fixed,
        warnings=(*raw.warnings, *begun.unused, *notes, *scale_note),
    )


def _hold_out(raw: RawData, spec: PruneSpec) -> tuple[Split, Split, str]:
    labels = raw.train.labels
    by_class = labels is not None and _looks_like_classes(labels) and spec.task != "regression"
    share = None if spec.holdout == "auto" else spec.holdout
    return split_rows(raw, share, spec.seed, by_class=by_class)


def _trial(train: Split, inputs: Sequence[TensorInfo], run: DenseRun, seed: int) -> Trial:
    """The dense model with at most 1,000 training rows, chosen by the seed."""
    for info in inputs:
        input_dtype(info)
    sample = np.random.default_rng(seed).permutation(len(train))[:MAX_ROWS]
    tensors = [to_tensor(train.inputs[info.name]) for info in inputs]
    return Trial(run, inputs, tensors, train.labels, torch.from_numpy(sample))


def _labels(train: Split, holdout: Split, plan: Plan, output: Output) -> Labels:
    """Labels of both splits as training wants them, their range checked."""
    first, second = plan.labels(train.labels, output.values), plan.labels(holdout.labels, output.values)
    for where, part in (("training", first), ("held-out", second)):
        if part is not None:
            check_label_range(part, plan, output.name, where)
    return first, second


def _rescaled(
    labels: Labels, shown: Array, trial: Trial, plan: Plan, spec: PruneSpec
) -> tuple[Labels, TargetScale, list[str]]:
    """Labels of a regression on the scale of the dense model's outputs, that scale, and a warning."""
    first, second = labels
    sampled = trial.sampled_labels(len(shown))
    if plan.task != "regression" or first is None or second is None or sampled is None:
        return labels, TargetScale(), []
    if spec.preprocess != "auto":
        return labels, TargetScale(), []
    try:
        scale, note = find_scale(shown, sampled, first)
    except PreprocessError:
        if not starts_untaught(spec):
            raise
        return labels, TargetScale(), []
    return (scale.to_output(first), scale.to_output(second)), scale, [note] if note else []


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
    try:
        best, info = choose(trial, attempts, plan)
    except PreprocessError:
        if not starts_untaught(spec):
            raise
        best, info = own_standardisation(attempts)
        note = (
            f"The file's weights do not tell which preprocessing belongs to them; the fresh ones are trained "
            f"with: {best.name}. Give the pruned model rows that are prepared so, or set preprocess."
        )
        return best, info, [note]
    weak = plan.task == "classification" and best.score is not None and best.score.value < 50
    note = (
        f"The dense model is weak even with the best preprocessing found ({info.why}); "
        f"if that is wrong, set preprocess."
    )
    return best, info, [note] if weak else []


def starts_untaught(spec: PruneSpec) -> bool:
    """Whether training starts from fresh weights, without a teacher: the sent ones need not be good."""
    return spec.init == "random" and spec.distillation in ("auto", 0.0)


def _looks_like_classes(labels: Array) -> bool:
    """Whether the split may be stratified: one whole number a row, few of them."""
    if labels.size != len(labels) or not bool((labels == np.round(labels)).all()):
        return False
    return len(np.unique(labels)) <= max(2, len(labels) // 2)


def _loss_scale(plan: Plan, labels: Array | None) -> float:
    if plan.task != "regression" or labels is None:
        return 1.0
    flat = labels.reshape(len(labels), -1).astype(np.float64)
    error = np.abs(flat - np.median(flat, axis=0)).mean() if plan.loss == "mae" else flat.var(axis=0).mean()
    return float(1 / error) if error > 0 else 1.0
