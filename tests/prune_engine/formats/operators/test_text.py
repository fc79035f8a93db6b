"""N-grams."""

from __future__ import annotations

import numpy as np
import pytest

from prune_engine.errors import UnsupportedOperatorError
from prune_engine.formats.importer import compile_graph
from tests.prune_engine.formats.operators.one_node import holds, model

POOL = {
    "ngram_counts": [0, 4],
    "ngram_indexes": [0, 1, 2, 3, 4, 5, 6],
    "pool_int64s": [2, 3, 5, 4, 5, 6, 7, 8, 6, 7],
}


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize(("shortest", "longest", "skips"), [(1, 1, 0), (1, 2, 0), (2, 2, 5), (1, 2, 3)])
def test_counts(shortest: int, longest: int, skips: int, mode: str) -> None:
    x = np.array([[1, 1, 3, 3, 3, 7], [8, 6, 7, 5, 6, 8]])
    options = POOL | {"min_gram_length": shortest, "max_gram_length": longest, "max_skip_count": skips}
    weights = [0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    for given in (x, x[1]):
        inputs = {"x": given}
        holds("TfIdfVectorizer", inputs, gradient=False, opset=9, mode=mode, weights=weights, **options)
        holds("TfIdfVectorizer", inputs, gradient=False, opset=9, mode=mode, **options)


def test_strings_are_refused_by_name() -> None:
    options = POOL | {"min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 0}
    del options["pool_int64s"]
    proto = model("TfIdfVectorizer", {"x": np.array([1])}, opset=9, mode="TF", pool_strings=["a"], **options)
    with pytest.raises(UnsupportedOperatorError, match="n-grams of strings"):
        compile_graph(proto)
