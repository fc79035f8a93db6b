from __future__ import annotations

import numpy as np
import pytest

from prune_engine.data import candidate_shapes, data_from_arrays
from prune_engine.errors import (
    DataEmptyError,
    DataError,
    DataFormatError,
    DataUnsafeError,
    NotFiniteError,
    ShapeMismatchError,
)


def test_train_and_test_arrays_become_splits() -> None:
    arrays = {
        "x_train": np.zeros((20, 4)),
        "y_train": np.zeros(20, int),
        "x_test": np.zeros((5, 4)),
        "y_test": np.zeros(5, int),
        "x_dev": np.zeros((3, 4)),
        "feature_names": np.array(["a", "b", "c", "d"]),
    }
    raw = data_from_arrays(arrays)
    assert raw.test is not None
    assert (len(raw.train), len(raw.test)) == (20, 5)
    assert raw.columns == ("a", "b", "c", "d")
    assert raw.warnings == ("x_dev: not used; training takes *_train, measuring *_test.",)


def test_arrays_named_like_inputs_keep_their_names() -> None:
    arrays = {"ids": np.zeros((12, 4), int), "mask": np.ones((12, 4), int), "labels": np.zeros(12, int)}
    raw = data_from_arrays(arrays)
    assert set(raw.train.inputs) == {"ids", "mask"}
    assert raw.kind == "tensors"


def test_words_as_labels_become_sorted_classes_of_the_training_split() -> None:
    raw = data_from_arrays(
        {"x_train": np.zeros((3, 1)), "y_train": ["b", "a", "b"], "x_test": np.zeros((1, 1)), "y_test": ["a"]}
    )
    assert raw.classes == ("a", "b")
    assert raw.train.labels is not None
    assert raw.train.labels.tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="missing in the training split"):
        data_from_arrays(
            {"x_train": np.zeros((1, 1)), "y_train": ["b"], "x_test": np.zeros((1, 1)), "y_test": ["z"]}
        )


def test_a_test_split_without_labels_is_not_used() -> None:
    raw = data_from_arrays(
        {"x_train": np.zeros((20, 4)), "y_train": np.zeros(20), "x_test": np.zeros((5, 4))}
    )
    assert raw.test is None
    assert any("held out instead" in warning for warning in raw.warnings)


@pytest.mark.parametrize(
    ("arrays", "error", "says"),
    [
        ({"x": np.zeros((4, 2)), "y": np.zeros(3)}, ShapeMismatchError, r"'x' \(4, 2\), labels \(3,\)"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, DataEmptyError, "no rows"),
        ({"y": np.zeros(3)}, DataFormatError, "no inputs among"),
        ({"x_test": np.zeros((3, 1))}, DataFormatError, "only test arrays"),
        ({"x": np.float32(3.0)}, ShapeMismatchError, "single value"),
        ({"x": np.array([None, 1])}, DataUnsafeError, "Python objects"),
        ({"x": np.zeros((4, 2)), "y": np.array([1, np.nan, 2, 3])}, NotFiniteError, "labels .train.: 1 NaN"),
        ({"x": np.array(["2020-01-01"], "M8[D]")}, DataFormatError, "datetime64"),
    ],
)
def test_defects_are_named(arrays: dict[str, np.ndarray], error: type[DataError], says: str) -> None:
    with pytest.raises(error, match=says):
        data_from_arrays(arrays)


@pytest.mark.parametrize(
    ("array", "first"),
    [
        (np.zeros((12, 28, 28), np.uint8), (2, 1, 28, 28)),
        (np.zeros((12, 32, 32, 3), np.uint8), (2, 3, 32, 32)),
        (np.zeros((12, 3, 32, 32), np.float32), (2, 3, 32, 32)),
        (np.zeros((12, 24, 16), np.float32), (2, 24, 16)),
        (np.zeros((12, 13), np.float32), (2, 13)),
    ],
)
def test_torchscript_is_first_tried_with_the_likeliest_shape(
    array: np.ndarray, first: tuple[int, ...]
) -> None:
    shapes = candidate_shapes(data_from_arrays({"x": array, "y": np.zeros(12, int)}))
    assert shapes[0] == ((first, "float32"),)
    assert len(set(shapes)) == len(shapes)


def test_texts_are_exported_with_token_ids() -> None:
    raw = data_from_arrays({"x": np.array(["a b", "c"]), "y": np.array([0, 1])})
    assert raw.kind == "text"
    assert (((2, 128), "int64"),) in candidate_shapes(raw)
