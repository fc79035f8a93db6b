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


def test_cross_entropy_of_logits_and_of_their_softmax_agree() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(20, 4)), rng.integers(0, 4, 20)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = log_loss(labels, probabilities, labels=range(4))
    assert scoring.cross_entropy(logits, labels, probabilities=False) == pytest.approx(expected)
    assert scoring.cross_entropy(probabilities, labels, probabilities=True) == pytest.approx(
        expected, rel=1e-6
    )
