from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prune_engine.data.raw import data_from_arrays
from prune_engine.data.split import sorted_by_class, split_rows, stratified
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


@pytest.mark.parametrize("own_test", [False, True])
def test_rows_sorted_by_class_are_mixed(own_test: bool) -> None:
    labels = np.repeat(np.arange(10), 200)
    rows = {"x_train": np.arange(2_000.0)[:, None], "y_train": labels}
    if own_test:
        rows |= {"x_test": np.arange(2_000.0)[:, None], "y_test": labels}
    for split in split_rows(data_from_arrays(rows), None, 0, by_class=True)[:2]:
        assert split.labels is not None
        assert len(set(split.labels[:100].tolist())) == 10
        numbers = split.inputs["x"].ravel().astype(int)
        assert len(set(numbers.tolist())) == len(numbers)
        assert np.array_equal(split.labels, labels[numbers])


@pytest.mark.parametrize(
    ("labels", "by_class"),
    [(np.random.default_rng(0).integers(0, 10, 2_000), True), (np.repeat(np.arange(10), 200), False)],
)
def test_other_rows_keep_their_order(labels: np.ndarray, by_class: bool) -> None:
    raw = data_from_arrays({"x": np.arange(2_000.0)[:, None], "y": labels})
    for split in split_rows(raw, None, 0, by_class=by_class)[:2]:
        assert (np.diff(split.inputs["x"].ravel()) > 0).all()


@pytest.mark.parametrize(
    ("labels", "grouped"),
    [
        ([0] * 40, False),
        ([0] * 30 + [1] * 10, True),
        ([0, 1] * 20, False),
        ([0, 0, 0, 0, 1, 1, 1, 1] * 5, True),
        ([7], False),
    ],
)
def test_what_counts_as_sorted(labels: list[int], grouped: bool) -> None:
    assert sorted_by_class(np.array(labels)) is grouped
    assert sorted_by_class(np.array(labels)[:, None]) is grouped


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
