"""What the labels and the dense model's outputs say about the task: which output, which loss, which
figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prune_engine.data.raw import Array
from prune_engine.errors import DataError, LabelRangeError, ShapeMismatchError, SpecError
from prune_engine.report import Metric
from prune_engine.spec import PruneSpec

TaskName = Literal["classification", "regression", "distillation"]
LossName = Literal["cross_entropy", "mse", "mae"]
OutputsAre = Literal["logits", "probabilities", "values"]

_CLASS_WORDS = ("logit", "prob", "class", "softmax")


@dataclass(frozen=True)
class Output:
    """An output of the dense model on a few rows: its name and the values it gave."""

    name: str
    values: Array


@dataclass(frozen=True)
class Plan:
    """The task as it was decided. `classes` counts the model's classes; None: no classes.

    `binary`: two classes and a single output; `one_hot`: labels came as one column per class.
    """

    task: TaskName
    loss: LossName
    output_index: int
    classes: int | None = None
    binary: bool = False
    one_hot: bool = False

    def labels(self, labels: Array | None, output: Array) -> Array | None:
        """Labels as training wants them: int64 (rows,), or float32 in the output's shape; None without a
        use."""
        if labels is None or self.task == "distillation":
            return None
        if self.task == "classification":
            numbers = labels.argmax(axis=1) if self.one_hot else labels.reshape(len(labels))
            return numbers.astype(np.int64)
        return labels.astype(np.float32).reshape(len(labels), *output.shape[1:])


def plan_task(labels: Array | None, outputs: Sequence[Output], spec: PruneSpec) -> Plan:
    """Decide the task.

    Integer labels and an output with two or more columns: classification. Labels 0 and 1 and one output
    column:
    classification with a threshold. Other numbers: regression on the first output with as many columns. No
    labels: distillation.

    Args:
        labels: of the training rows, as sent.
        outputs: all outputs of the dense model for the same few rows.
        spec: `task` and `loss`.

    Raises:
        DataError: the task asked for needs labels, and there are none.
        ShapeMismatchError: no output fits the labels.
        SpecError: task and loss contradict each other.
    """
    usable = [
        (index, output)
        for index, output in enumerate(outputs)
        if output.values.dtype.kind == "f" and len(output.values)
    ]
    if not usable:
        raise ShapeMismatchError(
            "the model has no floating-point output with one entry per row; export it with its scores as "
            "outputs",
            param="model",
        )
    if labels is None and spec.task in ("classification", "regression"):
        raise DataError(f"task {spec.task} needs labels, and the data has none; add 'y', or let task be auto")
    if labels is None or spec.task == "distillation":
        return _distillation(usable, spec)
    plan = None
    if spec.task in ("auto", "classification"):
        plan = _classification(labels, usable, spec)
    if plan is None and spec.task in ("auto", "regression"):
        plan = _regression(labels, usable, spec)
    if plan is None:
        shapes = ", ".join(f"'{one.name}' (rows, {_shape(one)})" for _, one in usable)
        raise ShapeMismatchError(
            f"labels of shape ({', '.join(map(str, ('rows', *labels.shape[1:])))}) and dtype "
            f"{labels.dtype} fit no "
            "output of the model for "
            f"{'classification or regression' if spec.task == 'auto' else spec.task}: {shapes}; "
            "send labels that fit, or leave them out (or task=distillation) to prune against the dense "
            "model's outputs"
        )
    wanted = ("auto", "cross_entropy") if plan.task == "classification" else ("auto", "mse", "mae")
    if spec.loss not in wanted:
        raise SpecError(
            f"loss: {spec.loss} does not go with {plan.task}; use {' or '.join(wanted[1:])}", param="loss"
        )
    return plan


def check_label_range(labels: Array, plan: Plan, output: str, where: str) -> None:
    """Classes must be numbers from 0 to the model's last one.

    Args:
        labels: as `Plan.labels` gave them.
        plan: the task.
        output: name of the model's output.
        where: "training" or "held-out".

    Raises:
        LabelRangeError: they are not; says the range found, the first such row and what to do.
    """
    if plan.task != "classification" or plan.classes is None or len(labels) == 0:
        return
    low, high = int(labels.min()), int(labels.max())
    if low >= 0 and high < plan.classes:
        return
    row = int(np.argmax((labels < 0) | (labels >= plan.classes)))
    hint = (
        "start counting the classes at 0"
        if low == 1 and high == plan.classes
        else "correct or drop those rows"
    )
    if low == -1:
        hint = "-1 usually marks rows without a label: drop them"
    raise LabelRangeError(
        f"the {where} labels go from {low} to {high}, but the model's output '{output}' has "
        f"{plan.classes} classes "
        f"(0 to {plan.classes - 1}); the first wrong one is {int(labels[row])} in row {row} (counted from "
        f"0); {hint}"
    )


def outputs_are(output: Array, plan: Plan) -> OutputsAre:
    """Whether the dense model's output already is a probability: rows >= 0 that sum to 1 (one column: in [0,
    1])."""
    if plan.loss != "cross_entropy":
        return "values"
    flat = output.reshape(len(output), -1).astype(np.float64)
    tolerance = 1e-2 if output.dtype == np.float16 else 1e-3
    if flat.shape[1] == 1:
        inside = bool(((flat >= 0) & (flat <= 1)).all())
        return "probabilities" if inside else "logits"
    sums_to_one = bool((np.abs(flat.sum(axis=1) - 1) < tolerance).all())
    return "probabilities" if sums_to_one and bool((flat >= -1e-6).all()) else "logits"


def metric_of(plan: Plan, target: str | None) -> Metric:
    """The figure of merit."""
    if plan.task == "classification":
        return Metric(name="accuracy", unit="%", higher_is_better=True)
    if plan.task == "distillation":
        if plan.loss == "cross_entropy":
            return Metric(name="agreement", unit="%", higher_is_better=True)
        return Metric(name="relative_error", unit="of the dense output's spread", higher_is_better=False)
    unit = f"unit of '{target}'" if target else "unit of the labels"
    if plan.loss == "mae":
        return Metric(name="mae", unit=unit, higher_is_better=False)
    return Metric(name="mse", unit=f"{unit}, squared", higher_is_better=False)


def _distillation(usable: list[tuple[int, Output]], spec: PruneSpec) -> Plan:
    if spec.loss == "mae":
        raise SpecError("loss: mae does not go with distillation; use mse or cross_entropy", param="loss")
    for index, output in usable:
        columns = _columns(output)
        if columns is None or columns < 2:
            continue
        flat = output.values.reshape(len(output.values), -1)
        sums = bool((np.abs(flat.sum(axis=1) - 1) < 1e-3).all() and (flat >= -1e-6).all())
        named = any(word in output.name.lower() for word in _CLASS_WORDS)
        if spec.loss == "cross_entropy" or (spec.loss == "auto" and (sums or named)):
            return Plan("distillation", "cross_entropy", index, classes=columns)
    if spec.loss == "cross_entropy":
        raise SpecError(
            "loss: cross_entropy needs an output of shape (rows, classes), which the model lacks",
            param="loss",
        )
    return Plan("distillation", "mse", usable[0][0])


def _classification(labels: Array, usable: list[tuple[int, Output]], spec: PruneSpec) -> Plan | None:
    flat = labels.reshape(len(labels)) if labels.size == len(labels) else None
    if flat is None:
        return _one_hot(labels, usable)
    whole = labels.dtype.kind in "biu" or bool((flat == np.round(flat)).all())
    wide = [(index, output) for index, output in usable if (_columns(output) or 0) >= 2]
    narrow = [(index, output) for index, output in usable if _columns(output) == 1]
    if not whole:
        return None
    if labels.dtype.kind == "f" and spec.task == "auto" and narrow:
        return None
    if wide:
        high = int(flat.max(initial=0))
        index, output = next((pair for pair in wide if (_columns(pair[1]) or 0) > high), wide[0])
        return Plan("classification", "cross_entropy", index, classes=_columns(output))
    if narrow and (set(np.unique(flat).tolist()) <= {0, 1} or spec.task == "classification"):
        return Plan("classification", "cross_entropy", narrow[0][0], classes=2, binary=True)
    return None


def _one_hot(labels: Array, usable: list[tuple[int, Output]]) -> Plan | None:
    """Labels with one column per class: exactly one 1 in each row."""
    if labels.ndim != 2 or not bool(
        ((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all()
    ):
        return None
    for index, output in usable:
        if _columns(output) == labels.shape[1]:
            return Plan("classification", "cross_entropy", index, classes=labels.shape[1], one_hot=True)
    return None


def _regression(labels: Array, usable: list[tuple[int, Output]], spec: PruneSpec) -> Plan | None:
    per_row = labels[0].size if len(labels) else 1
    for index, output in usable:
        if len(output.values) and output.values[0].size == per_row:
            return Plan("regression", "mae" if spec.loss == "mae" else "mse", index)
    return None


def _columns(output: Output) -> int | None:
    """Entries a row, if all axes but one have size 1; None for sequences, maps and the like."""
    shape = output.values.shape[1:]
    larger = [extent for extent in shape if extent != 1]
    if len(larger) > 1 or (larger and shape[0] == 1):
        return None
    return larger[0] if larger else 1


def _shape(output: Output) -> str:
    return ", ".join(str(extent) for extent in output.values.shape[1:])
