"""What scikit-learn pipelines put around a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from prune_engine.errors import UnsupportedOperatorError
from prune_engine.formats.importer import compile_graph
from prune_engine.formats.operators.machine_learning import ML
from tests.prune_engine.formats.operators.one_node import Inputs, holds, model

RANDOM = np.random.default_rng(41)
X = RANDOM.standard_normal((5, 4)).astype(np.float32)


def agrees(operator: str, inputs: Inputs, outputs: int = 1, version: int = 3, **options: Any) -> None:
    holds(operator, inputs, outputs, gradient=False, domain=ML, version=version, **options)


def test_columns_are_taken() -> None:
    agrees("ArrayFeatureExtractor", {"x": X, "i": np.array([2, 0, 2])}, version=1)


def test_thresholds() -> None:
    agrees("Binarizer", {"x": X}, version=1, threshold=0.3)


@pytest.mark.parametrize("count", [1, 4])
def test_scaling(count: int) -> None:
    options = {"offset": [0.5, -1.0, 2.0, 0.0][:count], "scale": [2.0, 0.5, 1.0, 3.0][:count]}
    holds("Scaler", {"x": X}, domain=ML, version=1, **options)


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_rows_are_normalised(norm: str) -> None:
    agrees("Normalizer", {"x": np.abs(X) + 0.1}, version=1, norm=norm)


@pytest.mark.parametrize("missing", [float("nan"), 0.0])
def test_missing_values(missing: float) -> None:
    x = X.copy()
    x[1, 2] = x[3, 0] = missing
    agrees(
        "Imputer",
        {"x": x},
        version=1,
        imputed_value_floats=[1.0, 2.0, 3.0, 4.0],
        replaced_value_float=missing,
    )
    agrees("Imputer", {"x": x}, version=1, imputed_value_floats=[9.0], replaced_value_float=missing)


def test_features_side_by_side() -> None:
    agrees("FeatureVectorizer", {"a": X, "b": X[:, :2].copy()}, version=1, inputdimensions=[4, 2])


def test_categories() -> None:
    x = np.array([[3, 1], [7, 2]])
    agrees("OneHotEncoder", {"x": x}, version=1, cats_int64s=[1, 3, 7], zeros=1)


@pytest.mark.parametrize(
    ("x", "options", "kind"),
    [
        (np.array([3, 5, 9]), {"keys_int64s": [5, 3], "values_floats": [0.5, 1.5], "default_float": 9.0}, 1),
        (
            np.array([0.5, np.nan, 4.0], np.float32),
            {"keys_floats": [np.nan, 0.5], "values_int64s": [7, 8]},
            7,
        ),
        (np.array([1, 2]), {"keys_int64s": [2], "values_int64s": [4], "default_int64": 11}, 7),
    ],
)
def test_labels(x: np.ndarray, options: dict[str, Any], kind: int) -> None:
    agrees("LabelEncoder", {"x": x}, version=4, types={"y0": kind}, **options)


def test_labels_in_tensors() -> None:
    options = {
        "keys_tensor": helper.make_tensor("k", TensorProto.INT64, [3], [4, 2, 8]),
        "values_tensor": helper.make_tensor("v", TensorProto.FLOAT, [3], [0.1, 0.2, 0.3]),
        "default_tensor": helper.make_tensor("d", TensorProto.FLOAT, [1], [-5.0]),
    }
    agrees("LabelEncoder", {"x": np.array([[8, 3], [2, 4]])}, version=4, **options)


def test_strings_are_refused_by_name() -> None:
    options: list[tuple[str, dict[str, Any]]] = [
        ("LabelEncoder", {"keys_int64s": [1], "values_strings": ["a"]}),
        ("OneHotEncoder", {"cats_strings": ["a"]}),
        ("LinearClassifier", {"coefficients": [1.0], "classlabels_strings": ["a", "b"]}),
    ]
    for operator, attributes in options:
        with pytest.raises(UnsupportedOperatorError, match="strings"):
            compile_graph(model(operator, {"x": np.array([[1]])}, domain=ML, version=2, **attributes))


def test_maps_are_refused_with_the_way_round() -> None:
    proto = model("ZipMap", {"x": X}, domain=ML, version=1, classlabels_int64s=[0, 1, 2, 3])
    with pytest.raises(UnsupportedOperatorError, match=r"ZipMap .* options=\{'zipmap': False\}"):
        compile_graph(proto)
