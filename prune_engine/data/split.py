"""The rows to measure with: the data's own test split, else a seeded share held out, stratified by class."""

from __future__ import annotations

import numpy as np

from prune_engine.data.raw import Array, RawData, Split
from prune_engine.errors import TooFewSamplesError

DEFAULT_HOLDOUT = 0.2
MIN_TRAIN_ROWS = 10
MIN_HOLDOUT_ROWS = 2


def split_rows(raw: RawData, share: float | None, seed: int, *, by_class: bool) -> tuple[Split, Split, str]:
    """(training rows, held-out rows, how they were held out).

    Args:
        raw: the data; its own test split is taken where it has one.
        share: of the rows to hold out otherwise; None: 20 %.
        seed: of the choice.
        by_class: keep the shares of the classes (integer labels).

    Raises:
        TooFewSamplesError: fewer than 10 rows to train on or 2 to measure with.
    """
    if raw.test is not None:
        _check(len(raw.train), len(raw.test))
        return raw.train, raw.test, "test split"
    share = DEFAULT_HOLDOUT if share is None else share
    rows = len(raw.train)
    held = max(1, round(share * rows))
    _check(rows - held, held)
    labels = raw.train.labels
    generator = np.random.default_rng(seed)
    if by_class and labels is not None:
        chosen = stratified(labels.reshape(len(labels)), held, generator)
        how = f"{100 * held / rows:.3g} % of the rows, by class, seed {seed}"
    else:
        chosen = generator.permutation(rows)[:held]
        how = f"{100 * held / rows:.3g} % of the rows, seed {seed}"
    mask = np.zeros(rows, dtype=bool)
    mask[chosen] = True
    return raw.train.take(np.flatnonzero(~mask)), raw.train.take(np.flatnonzero(mask)), how


def stratified(labels: Array, count: int, generator: np.random.Generator) -> Array:
    """`count` row numbers in which every class has its share, to within one row (largest remainders)."""
    classes, members = np.unique(labels, return_inverse=True)
    sizes = np.bincount(members, minlength=len(classes))
    exact = sizes * (count / len(labels))
    quota = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - quota), kind="stable")
    quota[order[: count - int(quota.sum())]] += 1
    chosen = [
        generator.permutation(np.flatnonzero(members == number))[: quota[number]]
        for number in range(len(classes))
    ]
    return np.concatenate(chosen)


def _check(train: int, held: int) -> None:
    if train < MIN_TRAIN_ROWS or held < MIN_HOLDOUT_ROWS:
        raise TooFewSamplesError(
            f"{train} rows to train on and {held} to measure with are too few; at least {MIN_TRAIN_ROWS} and "
            f"{MIN_HOLDOUT_ROWS} are needed; send more rows"
        )
