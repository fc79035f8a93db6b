from __future__ import annotations

import numpy as np
import pytest

from prune_engine.data.task import Output, Plan, check_label_range, metric_of, outputs_are, plan_task
from prune_engine.errors import DataError, LabelRangeError, ShapeMismatchError, SpecError
from prune_engine.spec import PruneSpec

INTEGERS = np.array([0, 1, 2, 0])
BINARY = np.array([0, 1, 1, 0])
FLOATS = np.array([0.5, 1.5, 2.0, 1.0])


def output(*shape: int, name: str = "out") -> Output:
    return Output(name, np.zeros((4, *shape), np.float32))


def plan(labels: np.ndarray | None, *outputs: Output, **fields: object) -> Plan:
    return plan_task(labels, outputs, PruneSpec(density=0.5, **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "shape", "task", "loss"),
    [
        (INTEGERS, (10,), "classification", "cross_entropy"),
        (INTEGERS[:, None], (10,), "classification", "cross_entropy"),
        (INTEGERS.astype(np.float32), (10,), "classification", "cross_entropy"),
        (INTEGERS, (10, 1, 1), "classification", "cross_entropy"),
        (BINARY, (1,), "classification", "cross_entropy"),
        (BINARY, (), "classification", "cross_entropy"),
        (np.eye(3, dtype=np.float32)[INTEGERS], (3,), "classification", "cross_entropy"),
        (INTEGERS, (1,), "regression", "mse"),
        (FLOATS, (1,), "regression", "mse"),
        (FLOATS, (), "regression", "mse"),
        (np.zeros((4, 2)), (2,), "regression", "mse"),
        (None, (10,), "distillation", "mse"),
    ],
)
def test_labels_and_output_decide_the_task(
    labels: np.ndarray | None, shape: tuple[int, ...], task: str, loss: str
) -> None:
    decided = plan(labels, output(*shape))
    assert (decided.task, decided.loss) == (task, loss)


def test_one_hot_labels_become_class_numbers() -> None:
    labels = np.eye(3)[INTEGERS]
    decided = plan(labels, output(3))
    numbers = decided.labels(labels, np.zeros((4, 3)))
    assert numbers is not None
    assert numbers.tolist() == INTEGERS.tolist()


def test_the_prediction_is_the_first_output_that_fits() -> None:
    hidden, logits = output(7, 5, name="hidden"), output(3, name="logits")
    assert plan(INTEGERS, hidden, logits).output_index == 1
    assert plan(INTEGERS, output(2), logits).output_index == 1


def test_class_outputs_are_distilled_as_classes() -> None:
    sure = Output("out", np.full((4, 5), 0.2, np.float32))
    assert plan(None, sure).loss == "cross_entropy"
    assert plan(None, output(5, name="logits")).loss == "cross_entropy"
    assert plan(None, output(5), loss="cross_entropy").loss == "cross_entropy"
    assert metric_of(plan(None, sure), None).name == "agreement"
    assert metric_of(plan(None, output(5)), None).name == "relative_error"


@pytest.mark.parametrize(
    ("labels", "shape", "fields", "error", "says"),
    [
        (None, (10,), {"task": "classification"}, DataError, "needs labels"),
        (FLOATS, (10,), {}, ShapeMismatchError, "fit no output"),
        (np.zeros((4, 7)), (3,), {}, ShapeMismatchError, r"\(rows, 7\)"),
        (INTEGERS, (10,), {"loss": "mae"}, SpecError, "does not go with classification"),
        (FLOATS, (1,), {"loss": "cross_entropy"}, SpecError, "does not go with regression"),
        (None, (4, 4), {"loss": "cross_entropy"}, SpecError, "needs an output of shape"),
    ],
)
def test_contradictions_are_refused(
    labels: np.ndarray | None,
    shape: tuple[int, ...],
    fields: dict[str, str],
    error: type[Exception],
    says: str,
) -> None:
    with pytest.raises(error, match=says):
        plan(labels, output(*shape), **fields)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([0, 3], r"from 0 to 3, but .* 3 classes .* 3 in row 1"),
        ([1, 3], "start counting the classes at 0"),
        ([-1, 0], "drop them"),
    ],
)
def test_labels_beyond_the_classes_are_located(labels: list[int], says: str) -> None:
    decided = plan(INTEGERS, output(3))
    with pytest.raises(LabelRangeError, match=says):
        check_label_range(np.array(labels), decided, "out", "training")


def test_probabilities_are_told_from_logits() -> None:
    decided = plan(INTEGERS, output(3))
    logits = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    soft = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert outputs_are(logits, decided) == "logits"
    assert outputs_are(soft, decided) == "probabilities"
    assert outputs_are(np.log(soft), decided) == "logits"
    single = plan(BINARY, output(1))
    assert outputs_are(logits[:, :1], single) == "logits"
    assert outputs_are(soft[:, :1], single) == "probabilities"
