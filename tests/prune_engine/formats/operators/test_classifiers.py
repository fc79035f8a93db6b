"""Linear models, and how scores become labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from prune_engine.formats.operators.machine_learning import ML
from tests.prune_engine.formats.operators.one_node import holds

RANDOM = np.random.default_rng(42)
X = RANDOM.standard_normal((7, 3)).astype(np.float32)
INT64 = {"y0": 7}


def numbers(count: int) -> list[float]:
    return [round(float(v), 3) for v in RANDOM.standard_normal(count)]


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("targets", [1, 2])
def test_linear_regression(targets: int, transform: str) -> None:
    options: dict[str, Any] = {
        "coefficients": numbers(3 * targets),
        "intercepts": numbers(targets),
        "targets": targets,
    }
    holds("LinearRegressor", {"x": X}, domain=ML, version=1, post_transform=transform, **options)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize(("labels", "rows"), [([4, 9], 2), ([4, 9, 2], 3)])
def test_linear_classification(labels: list[int], rows: int, transform: str) -> None:
    holds(
        "LinearClassifier",
        {"x": X},
        2,
        gradient=False,
        domain=ML,
        version=1,
        types=INT64,
        coefficients=numbers(3 * rows),
        intercepts=numbers(rows),
        classlabels_ints=labels,
        multi_class=0,
        post_transform=transform,
    )
