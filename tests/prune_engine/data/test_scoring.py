from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import log_loss, r2_score

from prune_engine.data import scoring


@pytest.mark.parametrize(
    ("hits", "trials", "probability"), [(0, 5, 0.2), (3, 5, 0.2), (120, 1000, 0.1), (10, 10, 0.1)]
)
def test_the_binomial_tail_is_scipys(hits: int, trials: int, probability: float) -> None:
    expected = stats.binom.sf(hits - 1, trials, probability)
    assert scoring.binomial_tail(hits, trials, probability) == pytest.approx(expected, rel=1e-9)


def test_always_saying_the_commonest_class_is_chance() -> None:
    labels = np.array([0] * 95 + [1] * 5)
    score = scoring.accuracy_score(np.zeros(100, int), labels)
    assert score.value == 95
    assert score.chance > 0.5


def test_r2_and_correlation() -> None:
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(50, 2))
    output = labels + 0.3 * rng.normal(size=(50, 2))
    assert scoring.r2_score(output, labels) == pytest.approx(r2_score(labels, output))
    assert scoring.correlation_score(7 * labels - 3, labels) == pytest.approx(1)


def test_confusion_does_not_depend_on_the_scale_of_the_logits() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(200, 4)), rng.integers(0, 4, 200)
    once = scoring.confusion(logits, labels, probabilities=False)
    assert scoring.confusion(255 * logits + 3, labels, probabilities=False) == pytest.approx(once)
    soft = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert scoring.confusion(soft, labels, probabilities=True) == pytest.approx(once, rel=1e-6)
    right = np.eye(4)[labels] + 0.1 * logits
    assert scoring.confusion(right, labels, probabilities=False) < once


def test_confusion_is_cross_entropy_at_a_spread_of_two() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(20, 4)), rng.integers(0, 4, 20)
    logits -= logits.mean(axis=1, keepdims=True)
    logits *= 2 / logits.std()
    soft = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = log_loss(labels, soft, labels=range(4))
    assert scoring.confusion(logits, labels, probabilities=False) == pytest.approx(expected)


def test_a_single_output_counts_for_two_classes() -> None:
    labels = np.array([0, 1, 0, 1])
    sure = scoring.confusion(np.array([-2.0, 2, -2, 2]), labels, probabilities=False)
    wrong = scoring.confusion(np.array([2.0, -2, -2, 2]), labels, probabilities=False)
    assert sure < wrong


def test_outputs_that_follow_the_labels_under_other_names_are_chance() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 1000)
    lucky = np.where(random.random(1000) < 0.6, (labels * 3 + 1) % 10, labels * 0)
    score = scoring.accuracy_score(lucky, labels)
    assert scoring.relabelling_chance([score]) > 0.001


def test_a_weak_but_trained_net_is_not_chance() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 1000)
    weak = np.where(random.random(1000) < 0.25, labels, random.integers(0, 10, 1000))
    score = scoring.accuracy_score(weak, labels)
    assert scoring.relabelling_chance([score, score]) == pytest.approx(0.001)
