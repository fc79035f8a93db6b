from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch.nn import functional

from prune_engine.data import Prepared
from prune_engine.training.losses import distillation_loss, relative_squared_error, task_loss


def prepared(**fields: Any) -> Prepared:
    usual = {
        "task": "classification",
        "loss": "cross_entropy",
        "outputs_are": "logits",
        "output_index": 0,
        "loss_scale": 1.0,
    }
    return cast(Prepared, SimpleNamespace(**usual | fields))


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(20, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.randint(0, 4, (20,), generator=torch.Generator().manual_seed(1))


def test_cross_entropy_is_the_same_from_logits_log_probabilities_and_probabilities(
    logits: torch.Tensor, labels: torch.Tensor
) -> None:
    expected = functional.cross_entropy(logits, labels)
    soft = logits.softmax(dim=1)
    for output, kind in ((logits, "logits"), (soft.log(), "logits"), (soft, "probabilities")):
        got = task_loss(output, labels, prepared(outputs_are=kind))
        assert torch.allclose(got, expected, atol=1e-5)
    assert torch.allclose(task_loss(logits[:, :, None, None], labels, prepared()), expected)


def test_a_probability_of_zero_gives_a_finite_loss_and_gradient() -> None:
    output = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    loss = task_loss(output, torch.tensor([1, 1]), prepared(outputs_are="probabilities"))
    loss.backward()
    assert output.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(output.grad).all()


def test_two_classes_on_one_output_take_binary_cross_entropy() -> None:
    logits = torch.tensor([[2.0], [-1.0], [0.5]])
    labels = torch.tensor([1, 0, 0])
    expected = functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
    assert torch.allclose(task_loss(logits, labels, prepared()), expected)
    soft = prepared(outputs_are="probabilities")
    assert torch.allclose(task_loss(logits.sigmoid(), labels, soft), expected, atol=1e-5)
    assert torch.allclose(task_loss(logits[:, 0], labels, prepared()), expected)


def test_a_batch_of_one_row_works() -> None:
    assert torch.isfinite(task_loss(torch.zeros(1, 4), torch.tensor([2]), prepared()))
    assert torch.isfinite(task_loss(torch.zeros(1, 1), torch.tensor([1]), prepared()))


def test_numbers_take_the_scaled_error() -> None:
    output, labels = torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [5.0]])
    assert task_loss(output, labels, prepared(task="regression", loss="mse", loss_scale=2.0)).item() == 5.0
    assert task_loss(output, labels, prepared(task="regression", loss="mae")).item() == 1.5


def test_half_precision_outputs_are_computed_in_single(logits: torch.Tensor, labels: torch.Tensor) -> None:
    assert task_loss(logits.half(), labels, prepared()).dtype == torch.float32


def test_the_teacher_is_matched_by_softened_kl(logits: torch.Tensor) -> None:
    teacher = torch.randn(20, 4, generator=torch.Generator().manual_seed(2))
    ours, theirs = (logits / 3).log_softmax(1), (teacher / 3).softmax(1)
    expected = 9 * (theirs * (theirs.log() - ours)).sum(dim=1).mean()
    assert torch.allclose(distillation_loss(logits, teacher, prepared(), 3.0), expected, atol=1e-5)
    soft = distillation_loss(
        logits.softmax(1), teacher.softmax(1), prepared(outputs_are="probabilities"), 3.0
    )
    assert torch.allclose(soft, expected, atol=1e-4)


@pytest.mark.parametrize(
    "task",
    [
        prepared(),
        prepared(task="regression", loss="mse"),
        prepared(task="distillation", loss="mse"),
        prepared(task="distillation", loss="cross_entropy"),
    ],
)
@pytest.mark.parametrize("columns", [1, 4])
def test_a_student_that_equals_its_teacher_has_no_loss(task: Prepared, columns: int) -> None:
    output = torch.randn(8, columns, generator=torch.Generator().manual_seed(0))
    assert distillation_loss(output, output, task, 2.0).item() == pytest.approx(0, abs=1e-6)
    assert distillation_loss((output, output), (output, output), task, 2.0).item() == pytest.approx(
        0, abs=1e-6
    )
    assert distillation_loss(output + torch.randn(8, columns), output, task, 2.0).item() > 0


def test_of_several_outputs_only_the_prediction_counts_next_to_labels(logits: torch.Tensor) -> None:
    task = prepared(output_index=1)
    other = torch.full((20, 3), math.nan)
    alone = distillation_loss(logits, logits.flip(0), task, 2.0)
    assert torch.equal(distillation_loss((other, logits), (other, logits.flip(0)), task, 2.0), alone)


def test_without_labels_all_floating_point_outputs_count(logits: torch.Tensor) -> None:
    task = prepared(task="distillation", loss="mse")
    numbers = torch.arange(20)
    pair = distillation_loss((logits, numbers, 2 * logits), (logits, numbers, logits), task, 2.0)
    assert torch.allclose(pair, relative_squared_error(2 * logits, logits) / 2)
