"""Images moved by a few pixels: what is moved where, and that it depends on nothing but the step."""

from __future__ import annotations

import pytest
import torch

from prune_engine.data.plane import Plane
from prune_engine.training.augmentation import Shifts, mixed, shift

ROWS = torch.arange(30_000)


def test_an_image_is_moved_and_the_border_fills_the_rest() -> None:
    image = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).reshape(1, 1, 2, 3)
    moved = shift(image, Plane(1, 2, 3), torch.tensor([1]), torch.tensor([-1]))
    assert moved.reshape(2, 3).tolist() == [[2.0, 3.0, 3.0], [2.0, 3.0, 3.0]]


def test_each_row_is_moved_by_its_own_offset() -> None:
    images = torch.arange(2 * 9.0).reshape(2, 1, 3, 3)
    moved = shift(images, Plane(1, 3, 3), torch.tensor([0, 1]), torch.tensor([0, 0]))
    assert torch.equal(moved[0], images[0])
    assert torch.equal(moved[1, 0, 1:], images[1, 0, :2])


@pytest.mark.parametrize("flat", [False, True])
def test_channels_last_and_flat_rows_move_as_channels_first_do(flat: bool) -> None:
    images = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    down, right = torch.tensor([-1, 0, 1, 2]), torch.tensor([2, -2, 0, 1])
    expected = shift(images, Plane(3, 5, 6), down, right)
    last = images.permute(0, 2, 3, 1).contiguous()
    given = last.flatten(1) if flat else last
    moved = shift(given, Plane(3, 5, 6, channels_last=True), down, right)
    assert moved.shape == given.shape
    assert torch.equal(moved.reshape(4, 5, 6, 3).permute(0, 3, 1, 2), expected)
    if flat:
        first = shift(images.flatten(1), Plane(3, 5, 6), down, right)
        assert torch.equal(first.reshape(expected.shape), expected)


def test_a_mirrored_image_is_moved_first() -> None:
    image = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).reshape(1, 1, 2, 3).expand(2, 1, 2, 3)
    still, left = torch.zeros(2, dtype=torch.int64), torch.tensor([0, -1])
    moved = shift(image, Plane(1, 2, 3), still, left, torch.tensor([True, True]))
    assert moved[0, 0].tolist() == [[3.0, 2.0, 1.0], [6.0, 5.0, 4.0]]
    assert moved[1, 0].tolist() == [[3.0, 3.0, 2.0], [6.0, 6.0, 5.0]]
    half = shift(image, Plane(1, 2, 3), still, still, torch.tensor([False, True]))
    assert torch.equal(half[0], image[0])
    assert torch.equal(half[1], moved[0])


def test_half_of_what_is_moved_is_mirrored_whatever_its_offset() -> None:
    shifts = Shifts((None,), pixels=1, share=0.5, mirror=True)
    mirrored = shifts.mirrored(ROWS, step=3)
    assert float(mirrored.float().mean()) == pytest.approx(0.25, abs=0.01)
    down, _ = shifts.offsets(ROWS, step=3)
    assert float(mirrored[down == 1].float().mean()) == pytest.approx(0.25, abs=0.02)
    again = shifts.mirrored(ROWS, step=4)
    assert float((mirrored & again).float().mean()) == pytest.approx(1 / 16, abs=0.01)


def test_a_mirror_alone_moves_nothing_else() -> None:
    images = torch.randn(64, 1, 6, 6)
    rows = torch.arange(64)
    mirror = Shifts((Plane(1, 6, 6),), pixels=0, mirror=True)
    (seen,) = mirror((images,), rows, step=0)
    mirrored = mirror.mirrored(rows, step=0)
    assert 0 < int(mirrored.sum()) < 64
    assert torch.equal(seen[mirrored], images[mirrored].flip(3))
    assert torch.equal(seen[~mirrored], images[~mirrored])


def test_every_offset_is_equally_likely_and_no_axis_follows_the_other() -> None:
    down, right = Shifts((None,), pixels=1).offsets(ROWS, step=3)
    seen = torch.bincount((down + 1) * 3 + right + 1, minlength=9) / len(ROWS)
    assert (seen - 1 / 9).abs().max() < 0.01


def test_a_share_of_the_rows_is_moved() -> None:
    down, right = Shifts((None,), pixels=1, share=0.25).offsets(ROWS, step=3)
    still = ((down == 0) & (right == 0)).float().mean()
    assert float(still) == pytest.approx(0.75 + 0.25 / 9, abs=0.01)
    assert not any(offset.any() for offset in Shifts((None,), pixels=1, share=0.0).offsets(ROWS, step=3))


def test_an_offset_depends_on_seed_step_and_row_alone() -> None:
    one = Shifts((None,), pixels=2, seed=5)
    down, right = one.offsets(ROWS, step=7)
    some = torch.tensor([20_000, 3, 17])
    assert torch.equal(one.offsets(some, step=7)[0], down[some])
    for other in (one.offsets(ROWS, step=8), Shifts((None,), pixels=2, seed=6).offsets(ROWS, step=7)):
        assert float((other[0] == down).float().mean()) == pytest.approx(0.2, abs=0.02)
        assert float((other[1] == right).float().mean()) == pytest.approx(0.2, abs=0.02)


def test_inputs_that_are_no_images_stay() -> None:
    images, table = torch.randn(8, 1, 6, 6), torch.randn(8, 5)
    moved, same = Shifts((Plane(1, 6, 6), None), pixels=2)((images, table), torch.arange(8), step=0)
    assert same is table
    assert not torch.equal(moved, images)


def test_the_hash_gives_different_numbers_below_two_to_the_32nd() -> None:
    numbers = mixed(ROWS)
    assert len(numbers.unique()) == len(ROWS)
    assert int(numbers.min()) >= 0
    assert int(numbers.max()) < 2**32
