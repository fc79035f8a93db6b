"""Losses inside a graph."""

from __future__ import annotations

import numpy as np
import pytest

from tests.prune_engine.formats.operators.one_node import agree, holds, model

RANDOM = np.random.default_rng(6)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [None, 1])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4), (2, 3, 2, 2)])
@pytest.mark.parametrize("operator", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
def test_losses(
    operator: str, shape: tuple[int, ...], ignored: int | None, weighted: bool, reduction: str
) -> None:
    inputs = {
        "scores": RANDOM.standard_normal(shape).astype(np.float32),
        "target": RANDOM.integers(0, 3, (shape[0], *shape[2:])),
        "weight": np.array([0.5, 2.0, 1.5], np.float32) if weighted else None,
    }
    options = {} if ignored is None else {"ignore_index": ignored}
    holds(
        operator, inputs, opset=13, constants=("weight",) if weighted else (), reduction=reduction, **options
    )


def test_the_log_probabilities_come_along() -> None:
    inputs = {"scores": RANDOM.standard_normal((4, 3)).astype(np.float32), "target": np.array([0, 2, 1, 1])}
    holds("SoftmaxCrossEntropyLoss", inputs, 2, opset=13)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_the_weights_of_the_classes_have_a_gradient(reduction: str) -> None:
    inputs = {
        "scores": RANDOM.standard_normal((4, 3, 2)).astype(np.float32),
        "target": RANDOM.integers(0, 3, (4, 2)),
        "weight": np.array([0.5, 2.0, 1.5], np.float32),
    }
    holds("SoftmaxCrossEntropyLoss", inputs, opset=13, reduction=reduction)


def test_an_ignored_target_need_not_be_a_class() -> None:
    scores = RANDOM.standard_normal((3, 2)).astype(np.float32)
    inputs = {"scores": scores, "target": np.array([0, -7, 1])}
    proto = model("NegativeLogLikelihoodLoss", inputs, opset=13, ignore_index=-7)
    agree(proto, inputs, [np.float32(-(scores[0, 0] + scores[2, 1]) / 2)])
