"""The data set that needs no network: scikit-learn's handwritten digits."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from prune_engine.data.raw import Array
from prune_engine.data.split import DEFAULT_HOLDOUT, stratified

_SEED = 0


def digits() -> dict[str, Array]:
    """1,797 images, uint8 (rows, 8, 8) in 0..16, and labels 0..9; 20 % held out by class, always the same
    rows.

    Source: the test set of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin, Kaynak 1998).
    """
    data = load_digits()
    images, labels = data.images.astype(np.uint8), data.target.astype(np.int64)
    held = np.zeros(len(labels), dtype=bool)
    count = round(DEFAULT_HOLDOUT * len(labels))
    held[stratified(labels, count, np.random.default_rng(_SEED))] = True
    return {
        "x_train": images[~held],
        "y_train": labels[~held],
        "x_test": images[held],
        "y_test": labels[held],
    }
