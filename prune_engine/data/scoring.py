"""How good the dense model is with a candidate preprocessing, and whether that can be chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_TINY = 1e-9
_SPREAD = 2.0
_UNDERFLOW = 1e-30
_SATURATED_SHARE = 0.1
_PENALTY = 10.0
RELABELLINGS = 999
FEW_CLASSES = 5


@dataclass(frozen=True)
class Score:
    """How a candidate did.

    Args:
        value: accuracy in %, or 100 R2; what is compared.
        chance: probability that a model which knows nothing reaches it.
        confusion: decides between candidates that are equally right; lower is better.
        counts: (classes, classes), rows with a label by the class predicted; None for numbers.
    """

    value: float
    chance: float = 0.0
    confusion: float = math.inf
    counts: Array | None = None


def predicted_classes(output: Array, *, probabilities: bool) -> Array:
    """Classes from (rows, classes); from a single output (rows,) or (rows, 1), whether it is over its
    threshold."""
    flat = output.reshape(len(output), -1)
    if flat.shape[1] == 1:
        threshold = 0.5 if probabilities else 0.0
        return np.asarray(flat[:, 0] > threshold).astype(np.int64)
    return np.asarray(flat.argmax(axis=1))


def accuracy_score(predicted: Array, labels: Array, confused: float = math.inf) -> Score:
    """Accuracy, and the binomial tail at the agreement that independence would give.

    The chance level is the sum over classes of (share predicted) x (share of labels), as in Cohen's kappa,
    so a model that always says the commonest class is no better than chance however common that is.
    """
    rows = len(labels)
    hits = int((predicted == labels).sum())
    size = int(max(predicted.max(initial=0), labels.max(initial=0))) + 1
    counts = np.bincount(labels * size + predicted, minlength=size * size).reshape(size, size)
    expected = float((counts.sum(axis=0) / rows) @ (counts.sum(axis=1) / rows))
    return Score(100.0 * hits / rows, binomial_tail(hits, rows, expected), confused, counts)


def relabelling_chance(scores: Sequence[Score], seed: int = 0) -> float:
    """Probability that a net whose outputs stand for no classes in particular does as well as the best score.

    The outputs of an untrained net do follow the inputs, and with luck some of them the labels; which output
    is which class is all that it cannot know. So the classes are renamed at random 999 times, and it is
    counted how often the best of all candidates is as good as with the right names (a permutation test of the
    maximum, which also allows for having tried several). Under 5 classes there are too few names: 0.
    """
    counted = [score.counts for score in scores if score.counts is not None]
    size = max((len(counts) for counts in counted), default=0)
    if size < FEW_CLASSES:
        return 0.0
    random = np.random.default_rng(seed)
    names = random.permuted(np.tile(np.arange(size), (RELABELLINGS, 1)), axis=1)
    best, renamed = 0, np.zeros(RELABELLINGS, dtype=np.int64)
    for counts in counted:
        full = np.zeros((size, size), dtype=np.int64)
        full[: len(counts), : len(counts)] = counts
        best = max(best, int(np.trace(full)))
        renamed = np.maximum(renamed, full[np.arange(size), names].sum(axis=1))
    return (1 + int((renamed >= best).sum())) / (1 + RELABELLINGS)


def confusion(output: Array, labels: Array, *, probabilities: bool) -> float:
    """How little the classes are told apart: cross-entropy of logits brought to one scale.

    The logits of each row are centred, and all are divided by their standard deviation and multiplied by 2.
    So a net whose inputs are 255 times too large, and which is therefore surer of itself, does not look any
    better; plain cross-entropy would prefer it. Probabilities that have underflowed to 0 hide by how much,
    and count as confused where they are many.

    Args:
        output: (rows, classes), or one column for two classes; logits or probabilities.
        labels: (rows,) from 0.
        probabilities: which of the two it is.
    """
    scores = as_columns(output)
    if scores.shape[1] == 1:
        scores = np.concatenate([1 - scores if probabilities else np.zeros_like(scores), scores], axis=1)
    saturated = probabilities and float((scores <= _UNDERFLOW).mean()) > _SATURATED_SHARE
    if probabilities:
        scores = np.log(scores.clip(_UNDERFLOW))
    scores = scores - scores.mean(axis=1, keepdims=True)
    scores *= _SPREAD / max(float(scores.std()), _TINY)
    scores -= scores.max(axis=1, keepdims=True)
    chosen = scores[np.arange(len(labels)), labels]
    return float(np.mean(np.log(np.exp(scores).sum(axis=1)) - chosen)) + (_PENALTY if saturated else 0.0)


def binomial_tail(hits: int, trials: int, probability: float) -> float:
    """P(X >= hits) for X ~ Binomial(trials, probability)."""
    if hits <= 0 or probability >= 1.0:
        return 1.0
    if probability <= 0.0:
        return 0.0
    log_p, log_q = math.log(probability), math.log1p(-probability)
    logs = [
        math.lgamma(trials + 1)
        - math.lgamma(k + 1)
        - math.lgamma(trials - k + 1)
        + k * log_p
        + (trials - k) * log_q
        for k in range(hits, trials + 1)
    ]
    top = max(logs)
    return min(1.0, math.exp(top) * sum(math.exp(value - top) for value in logs))


def r2_score(output: Array, labels: Array) -> float:
    """1 - squared error / squared error of predicting each column's mean; the mean over the columns."""
    output, labels = as_columns(output), as_columns(labels)
    error = ((output - labels) ** 2).mean(axis=0)
    spread = labels.var(axis=0)
    return float(np.mean(1.0 - error / np.where(spread > 0, spread, 1.0)))


def correlation_score(output: Array, labels: Array) -> float:
    """Squared correlation, the R2 of the best straight line; the mean over the columns."""
    output, labels = as_columns(output), as_columns(labels)
    a, b = output - output.mean(axis=0), labels - labels.mean(axis=0)
    scale = (a**2).sum(axis=0) * (b**2).sum(axis=0)
    return float(np.mean((a * b).sum(axis=0) ** 2 / np.where(scale > 0, scale, np.inf)))


def as_columns(values: Array) -> Array:
    """(rows, everything else) in float64."""
    return values.reshape(len(values), -1).astype(np.float64)
