from __future__ import annotations

import gzip

import numpy as np

from prune_engine.measure import measure_size
from tests.prune_engine.data.nets import mlp


def test_sizes_are_those_of_the_file_and_of_gzip() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(300, 200))
    dense = mlp([(weight, np.zeros(200))])
    pruned = mlp([(weight * (rng.random(weight.shape) < 0.1), np.zeros(200))])
    contents = dense.SerializeToString()
    size, compressed = measure_size(dense)
    assert size == len(contents)
    assert abs(compressed - len(gzip.compress(contents, 6, mtime=0))) < 32
    zeros_size, zeros_compressed = measure_size(pruned)
    assert zeros_size == size
    assert zeros_compressed < compressed / 3
