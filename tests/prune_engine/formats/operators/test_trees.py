"""Tree ensembles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from prune_engine.formats.operators.machine_learning import ML
from tests.prune_engine.formats.operators.one_node import agree, by_reference, holds, model

RANDOM = np.random.default_rng(43)
X = RANDOM.standard_normal((20, 3)).astype(np.float32)
X[3, 0], X[4, 1] = np.nan, 0.25


def forest(prefix: str, targets: int, mode: str = "BRANCH_LEQ", positive: bool = False) -> dict[str, Any]:
    """Two trees of depth 2 and 1."""
    weights = [round(float(w), 3) for w in RANDOM.standard_normal(5 * targets)]
    weights = [abs(w) / 3 for w in weights] if positive else weights
    leaves = [(0, 3), (0, 4), (0, 2), (1, 1), (1, 2)]
    return {
        "nodes_treeids": [0] * 5 + [1] * 3,
        "nodes_nodeids": [0, 1, 2, 3, 4, 0, 1, 2],
        "nodes_featureids": [0, 1, 0, 0, 0, 2, 0, 0],
        "nodes_values": [0.1, 0.25, 0.0, 0.0, 0.0, -0.3, 0.0, 0.0],
        "nodes_hitrates": [1.0] * 8,
        "nodes_modes": [mode, mode, "LEAF", "LEAF", "LEAF", mode, "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 3, 0, 0, 0, 1, 0, 0],
        "nodes_falsenodeids": [2, 4, 0, 0, 0, 2, 0, 0],
        "nodes_missing_value_tracks_true": [1, 0, 0, 0, 0, 0, 0, 0],
        f"{prefix}_treeids": [tree for tree, _ in leaves for _ in range(targets)],
        f"{prefix}_nodeids": [node for _, node in leaves for _ in range(targets)],
        f"{prefix}_ids": list(range(targets)) * 5,
        f"{prefix}_weights": weights,
    }


@pytest.mark.parametrize(
    "mode", ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
)
def test_regression_over_every_comparison(mode: str) -> None:
    options = forest("target", 2, mode)
    holds("TreeEnsembleRegressor", {"x": X}, gradient=False, domain=ML, version=3, n_targets=2, **options)


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("base", [None, [0.5, -0.5]])
def test_what_is_done_with_the_leaves(base: list[float] | None, aggregate: str) -> None:
    options = forest("target", 2) | ({} if base is None else {"base_values": base})
    options |= {"aggregate_function": aggregate, "n_targets": 2}
    holds("TreeEnsembleRegressor", {"x": X}, gradient=False, domain=ML, version=3, **options)


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC"])
def test_classification(transform: str) -> None:
    options = forest("class", 3) | {"classlabels_int64s": [5, 3, 8], "post_transform": transform}
    kind = {"y0": 7}
    holds("TreeEnsembleClassifier", {"x": X}, 2, gradient=False, domain=ML, version=3, types=kind, **options)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC"])
@pytest.mark.parametrize("positive", [False, True])
def test_one_score_for_two_classes(positive: bool, transform: str) -> None:
    options = forest("class", 1, positive=positive) | {
        "classlabels_int64s": [5, 3],
        "post_transform": transform,
    }
    holds(
        "TreeEnsembleClassifier",
        {"x": X},
        2,
        gradient=False,
        domain=ML,
        version=3,
        types={"y0": 7},
        **options,
    )


def test_membership_in_a_set() -> None:
    tensor = helper.make_tensor
    options = {
        "n_targets": 1,
        "aggregate_function": 1,
        "tree_roots": [0],
        "nodes_featureids": [0, 1],
        "nodes_modes": tensor("m", TensorProto.UINT8, [2], [6, 0]),
        "nodes_splits": tensor("s", TensorProto.FLOAT, [2], [0.0, 1.5]),
        "nodes_truenodeids": [1, 0],
        "nodes_trueleafs": [0, 1],
        "nodes_falsenodeids": [2, 1],
        "nodes_falseleafs": [1, 1],
        "leaf_targetids": [0, 0, 0],
        "leaf_weights": tensor("w", TensorProto.FLOAT, [3], [1.0, 10.0, 100.0]),
        "membership_values": tensor("v", TensorProto.FLOAT, [3], [2.0, 4.0, np.nan]),
    }
    inputs = {"x": np.array([[2, 1], [4, 2], [3, 0], [4, 0]], np.float32)}
    proto = model("TreeEnsemble", inputs, domain=ML, version=5, **options)
    agree(proto, inputs, [np.array([[1.0], [10.0], [100.0], [1.0]], np.float32)])
    agree(proto, inputs, by_reference(proto, inputs))
