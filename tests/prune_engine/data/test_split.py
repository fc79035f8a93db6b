from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prune_engine.data.raw import data_from_arrays
from prune_engine.data.split import split_rows, stratified
from prune_engine.errors import TooFewSamplesError


def test_the_datas_own_test_split_is_held_out() -> None:
    raw = data_from_arrays({"x_train": np.zeros((12, 2)), "x_test": np.ones((3, 2))})
    train, held, how = split_rows(raw, 0.5, 0, by_class=False)
    assert (len(train), len(held), how) == (12, 3, "test split")


def test_a_fifth_of_the_rows_is_held_out_by_seed() -> None:
    raw = data_from_arrays({"x": np.arange(50.0)[:, None], "y": np.arange(50) % 5})
    train, held, how = split_rows(raw, None, 3, by_class=True)
    again = split_rows(raw, None, 3, by_class=True)
    other = split_rows(raw, None, 4, by_class=True)
    assert how == "20 % of the rows, by class, seed 3"
    assert np.array_equal(held.inputs["x"], again[1].inputs["x"])
    assert not np.array_equal(held.inputs["x"], other[1].inputs["x"])
    together = np.concatenate([train.inputs["x"], held.inputs["x"]]).ravel()
    assert sorted(together.tolist()) == list(range(50))
    assert held.labels is not None
    assert np.bincount(held.labels).tolist() == [2] * 5


@pytest.mark.parametrize("rows", [1, 3, 11])
def test_too_few_rows_are_refused(rows: int) -> None:
    raw = data_from_arrays({"x": np.zeros((rows, 2)), "y": np.zeros(rows, int)})
    with pytest.raises(TooFewSamplesError, match="too few"):
        split_rows(raw, None, 0, by_class=True)


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=60), data=st.data())
def test_every_class_is_held_out_to_within_one_row_of_its_share(
    labels: list[int], data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, len(labels)))
    array = np.array(labels)
    chosen = stratified(array, count, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == count
    for label in set(labels):
        exact = count * (array == label).sum() / len(labels)
        assert abs((array[chosen] == label).sum() - exact) < 1
