from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prune_engine.data.arrangement import Arrangement, arrangements, with_layout


def apply(one: Arrangement, rows: np.ndarray) -> np.ndarray:
    return one.gather(one.spread(torch.from_numpy(rows).double())).numpy()


def only(row: tuple[int, ...], wanted: tuple[int | str | None, ...]) -> Arrangement:
    (one,) = arrangements(row, wanted)
    return one


def pixels(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape)


def test_channels_last_images_become_channels_first() -> None:
    rows = pixels(2, 6, 5, 3)
    assert np.array_equal(apply(only((6, 5, 3), (3, 6, 5)), rows), rows.transpose(0, 3, 1, 2))


def test_channels_first_images_become_channels_last() -> None:
    rows = pixels(2, 3, 6, 5)
    assert np.array_equal(apply(only((3, 6, 5), (6, 5, 3)), rows), rows.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("wanted", [(1, 6, 5), (6, 5, 1), (30,), (6, 5)])
def test_grey_images_fit_every_layout(wanted: tuple[int, ...]) -> None:
    rows = pixels(2, 6, 5)
    assert np.array_equal(apply(only((6, 5), wanted), rows), rows.reshape(2, *wanted))


def test_flat_rgb_is_tried_channels_first_and_channels_last() -> None:
    rows = pixels(2, 6, 5, 3)
    first, last = arrangements((6, 5, 3), (90,))
    assert (first.layout, last.layout) == ("flat", "flat_nhwc")
    assert np.array_equal(apply(first, rows), rows.transpose(0, 3, 1, 2).reshape(2, 90))
    assert np.array_equal(apply(last, rows), rows.reshape(2, 90))


def test_images_sent_flat_are_unpacked() -> None:
    rows = pixels(2, 30)
    assert np.array_equal(apply(only((30,), (1, 6, 5)), rows), rows.reshape(2, 1, 6, 5))
    rgb = pixels(2, 90)
    first, last = arrangements((90,), (3, 6, 5))
    assert np.array_equal(apply(first, rgb), rgb.reshape(2, 3, 6, 5))
    assert np.array_equal(apply(last, rgb), rgb.reshape(2, 6, 5, 3).transpose(0, 3, 1, 2))


def test_grey_is_repeated_where_the_model_wants_rgb() -> None:
    rows = pixels(2, 6, 5)
    assert np.array_equal(apply(only((6, 5), (3, 6, 5)), rows), np.repeat(rows[:, None], 3, axis=1))


def test_rgb_becomes_grey_as_pillow_does_it() -> None:
    rows = pixels(2, 6, 5, 3)
    assert np.allclose(apply(only((6, 5, 3), (1, 6, 5)), rows)[:, 0], rows @ (0.299, 0.587, 0.114))


def test_channels_are_not_converted_where_the_data_fits_as_it_is() -> None:
    assert all(one.channels == 3 for one in arrangements((6, 5, 3), ("C", "H", "W")))


def test_a_model_with_symbols_gets_channels_first_before_as_sent() -> None:
    first, second = arrangements((6, 5, 3), ("C", "H", "W"))
    assert (first.layout, second.shape) == ("nchw", (6, 5, 3))


def test_sequences_may_be_transposed() -> None:
    rows = pixels(2, 7, 9)
    assert np.array_equal(apply(only((7, 9), (9, 7)), rows), rows.transpose(0, 2, 1))


def test_a_missing_axis_of_size_one_is_added() -> None:
    assert only((), (1,)).shape == (1,)
    assert only((6,), (6, 1)).shape == (6, 1)


def test_what_cannot_fit_gives_nothing() -> None:
    assert arrangements((6, 5, 3), (3, 8, 8)) == []
    assert with_layout((6, 5, 3), (6, 5, 3), "nchw") == []


def test_zero_and_minus_one_in_old_graphs_mean_any_size() -> None:
    assert arrangements((7,), (0,))
    assert arrangements((6, 5, 3), (3, -1, -1))[0].layout == "nchw"


@given(
    row=st.lists(st.integers(1, 5), min_size=0, max_size=3).map(tuple),
    wanted=st.lists(st.one_of(st.integers(1, 5), st.just("n"), st.none()), min_size=0, max_size=3).map(tuple),
)
def test_every_arrangement_gives_the_shape_it_promises_and_no_two_the_same_values(
    row: tuple[int, ...], wanted: tuple[int | str | None, ...]
) -> None:
    rows = pixels(2, *row)
    results = [(one, apply(one, rows)) for one in arrangements(row, wanted)]
    for one, result in results:
        assert result.shape == (2, *one.shape)
        assert all(
            not isinstance(dim, int) or dim == size for dim, size in zip(wanted, one.shape, strict=True)
        )
    distinct = {(result.shape, result.tobytes()) for _, result in results}
    assert len(distinct) == len(results)
