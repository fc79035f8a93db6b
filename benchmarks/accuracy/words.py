"""Words to numbers: a vocabulary of the training texts and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

LENGTH = 48
PADDING, UNKNOWN = 0, 1


def vocabulary(texts: Iterable[str], least: int = 2) -> dict[str, int]:
    """Words that occur at least `least` times, numbered from 2 on by how often, then by the alphabet."""
    counts = Counter(word for text in texts for word in str(text).split())
    words = sorted((word for word, count in counts.items() if count >= least), key=lambda w: (-counts[w], w))
    return {word: number for number, word in enumerate(words, start=2)}


def encode_words(texts: Array, words: dict[str, int]) -> Array:
    """(texts, LENGTH) int64: 0 pads, 1 is a word that is not in the vocabulary; longer texts are cut."""
    ids = np.full((len(texts), LENGTH), PADDING, dtype=np.int64)
    for row, text in enumerate(texts):
        found = [words.get(word, UNKNOWN) for word in str(text).split()[:LENGTH]]
        ids[row, : len(found)] = found
    return ids
