"""N-grams of numbered words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from prune_engine.formats.operators.table import Kernel, Node, NotSupportedError, operator


@operator("TfIdfVectorizer", since=9)
def _tf_idf(node: Node) -> Kernel:
    """How often each n-gram of the pool occurs in a row (TF), whether it does (IDF), or both, weighted."""
    if node.attribute("pool_strings"):
        raise NotSupportedError("n-grams of strings", "Turn the words into numbers before the model.")
    columns = dict(zip(_pool(node), node.attribute("ngram_indexes"), strict=True))
    width, mode = max(columns.values()) + 1, node.attribute("mode")
    lengths = range(node.attribute("min_gram_length"), node.attribute("max_gram_length") + 1)
    skips = node.attribute("max_skip_count")
    weights = node.attribute("weights")

    def kernel(x: Tensor) -> Tensor:
        rows = x.reshape(1, -1) if x.dim() == 1 else x
        found = torch.zeros(rows.shape[0], width)
        for row, words in enumerate(rows.tolist()):
            for gram in _grams(words, lengths, skips):
                if gram in columns:
                    found[row, columns[gram]] += 1
        found = found.to(x.device)
        if mode == "IDF":
            found = (found > 0).float()
        if mode != "TF" and weights:
            found = found * found.new_tensor(weights)
        return found[0] if x.dim() == 1 else found

    return kernel


def _pool(node: Node) -> Iterator[tuple[int, ...]]:
    """The n-grams: first those of one word, then those of two, and so on from the given starts."""
    words, starts = node.attribute("pool_int64s"), node.attribute("ngram_counts")
    for length, (begin, end) in enumerate(zip(starts, [*starts[1:], len(words)], strict=True), start=1):
        for place in range(begin, end, length):
            yield tuple(words[place : place + length])


def _grams(words: Sequence[int], lengths: range, skips: int) -> Iterator[tuple[int, ...]]:
    """Every n-gram with up to `skips` words left out between its own; single words come once."""
    for step in range(1, skips + 2):
        for length in lengths:
            if length == 1 and step > 1:
                continue
            for begin in range(len(words) - step * (length - 1)):
                yield tuple(words[begin : begin + step * (length - 1) + 1 : step])
