"""The rows to measure with: the data's own test split, else a seeded share held out, stratified by class.

Rows that lie sorted by class, as folders of images do, are mixed: what looks at the first rows of a split
sees all classes.
"""

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
        seed: of the choice, and of the order where rows are mixed.
        by_class: labels are classes: keep their shares, and mix rows that are sorted by them.

    Raises:
        TooFewSamplesError: fewer than 10 rows to train on or 2 to measure with.
    """
    if raw.test is not None:
        _check(len(raw.train), len(raw.test))
        train, test = (_mixed(split, seed) if by_class else split for split in (raw.train, raw.test))
        return train, test, "test split"
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
    parts = [np.flatnonzero(~mask), np.flatnonzero(mask)]
    if by_class and sorted_by_class(labels):
        parts = [np.random.default_rng(seed).permutation(part) for part in parts]
    return raw.train.take(parts[0]), raw.train.take(parts[1]), how


def sorted_by_class(labels: Array | None) -> bool:
    """Whether most rows follow one of their own class, nearer to always than to as often as by chance.

    Args:
        labels: numbers of classes, (rows,) or (rows, 1); None: never.
    """
    if labels is None or len(labels) < 2:
        return False
    labels = labels.reshape(len(labels))
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    by_chance = float(np.square(shares).sum())
    return float((labels[1:] == labels[:-1]).mean()) > (1.0 + by_chance) / 2.0


def _mixed(split: Split, seed: int) -> Split:
    if not sorted_by_class(split.labels):
        return split
    return split.take(np.random.default_rng(seed).permutation(len(split)))


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
