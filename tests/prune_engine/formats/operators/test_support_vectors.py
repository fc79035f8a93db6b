"""Support vector regression."""

from __future__ import annotations

import numpy as np
import pytest

from prune_engine.formats.operators.machine_learning import ML
from tests.prune_engine.formats.operators.one_node import holds

RANDOM = np.random.default_rng(61)
X = RANDOM.standard_normal((6, 3)).astype(np.float32)


def numbers(count: int) -> list[float]:
    return [round(float(v), 3) for v in RANDOM.standard_normal(count)]


@pytest.mark.parametrize("kind", ["LINEAR", "POLY", "RBF", "SIGMOID"])
@pytest.mark.parametrize("one_class", [0, 1])
def test_similarity_to_vectors(one_class: int, kind: str) -> None:
    options = {"coefficients": numbers(4), "support_vectors": numbers(12), "n_supports": 4, "rho": [0.3]}
    options |= {"kernel_type": kind, "kernel_params": [0.4, 0.2, 2.0], "one_class": one_class}
    holds("SVMRegressor", {"x": X}, gradient=not one_class, domain=ML, version=1, **options)


def test_without_vectors_it_is_linear() -> None:
    options = {"coefficients": numbers(3), "n_supports": 0, "rho": [0.3], "kernel_type": "LINEAR"}
    options |= {"kernel_params": [0.0, 0.0, 0.0]}
    holds("SVMRegressor", {"x": X}, domain=ML, version=1, **options)
