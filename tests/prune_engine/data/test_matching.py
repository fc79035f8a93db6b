"""Which array feeds which input, also where arrays are called like labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from prune_engine.data import data_from_arrays
from prune_engine.data.matching import match_inputs
from prune_engine.data.raw import RawData
from prune_engine.errors import ShapeMismatchError
from prune_engine.report import TensorInfo

ROWS = 20


def matched(inputs: tuple[str, ...], **arrays: np.ndarray[Any, Any]) -> RawData:
    infos = [TensorInfo(name=name, dtype="float32", shape=["N", 2]) for name in inputs]
    return match_inputs(data_from_arrays(arrays), infos)[0]


def rows(value: float) -> np.ndarray[Any, Any]:
    return np.full((ROWS, 2), value, np.float32)


@pytest.mark.parametrize("name", ["target", "y", "labels"])
def test_an_input_that_is_called_like_labels_gets_its_array(name: str) -> None:
    raw = matched(("source", name), **{"source": rows(1), name: rows(2)})
    assert raw.train.inputs[name][0, 0] == 2
    assert raw.train.labels is None


def test_the_labels_are_then_the_other_array_that_is_called_so() -> None:
    arrays = {"source_train": rows(1), "target_train": rows(2), "y_train": np.arange(ROWS)}
    arrays |= {name.replace("train", "test"): values for name, values in arrays.items()}
    raw = matched(("source", "target"), **arrays)
    assert raw.test is not None
    for split in (raw.train, raw.test):
        assert sorted(split.inputs) == ["source", "target"]
        assert split.labels is not None
        assert split.labels.tolist() == list(range(ROWS))


def test_labels_are_found_where_an_input_has_the_likeliest_name() -> None:
    raw = matched(("x", "y"), x=rows(1), y=rows(2), labels=np.arange(ROWS))
    assert raw.train.inputs["y"][0, 0] == 2
    assert raw.train.labels is not None
    assert raw.train.labels.tolist() == list(range(ROWS))


def test_one_of_several_inputs_may_be_called_x() -> None:
    raw = matched(("image", "mask"), x=rows(1), mask=rows(2))
    assert raw.train.inputs["image"][0, 0] == 1


def test_two_inputs_without_arrays_are_named() -> None:
    with pytest.raises(ShapeMismatchError, match="nothing feeds 'image', 'other'"):
        matched(("image", "mask", "other"), x=rows(1), mask=rows(2))


@pytest.mark.parametrize("shape", [[12, "batch", 2], ["time", "N", 2]])
def test_a_batch_on_the_second_axis_is_refused(shape: list[int | str]) -> None:
    info = TensorInfo(name="frames", dtype="float32", shape=shape)
    with pytest.raises(ShapeMismatchError, match=r"'frames' .* batch on the second axis"):
        match_inputs(data_from_arrays({"x": np.zeros((ROWS, 12, 2), np.float32)}), [info])


@pytest.mark.parametrize("shape", [[8, "sequence"], ["batch", "batch_2"], ["N", "n"], [None, "time"]])
def test_other_free_axes_are_not_taken_for_the_batch(shape: list[int | str | None]) -> None:
    info = TensorInfo(name="ids", dtype="int64", shape=shape)
    raw, _ = match_inputs(data_from_arrays({"x": np.zeros((ROWS, 2), np.int64)}), [info])
    assert list(raw.train.inputs) == ["ids"]
