"""Made-up rows: the shapes that the file names, and guesses for what it leaves open."""

from __future__ import annotations

import torch

from prune_engine.measure.sample import guessed, sample_rows
from prune_engine.report import TensorInfo


def info(name: str, *shape: int | str | None, dtype: str = "float32") -> TensorInfo:
    return TensorInfo(name=name, dtype=dtype, shape=shape)


def shapes(*inputs: TensorInfo, rows: int = 2) -> list[list[tuple[int, ...]]]:
    return [[tuple(v.shape) for v in guess.values()] for guess in sample_rows(inputs, rows)]


def test_named_sizes_are_kept_and_only_the_batch_is_open() -> None:
    assert shapes(info("x", "N", 3, 32, 32)) == [[(2, 3, 32, 32)]]
    assert shapes(info("x", 1, 3, 32, 32), rows=7) == [[(1, 3, 32, 32)]]


def test_open_image_sizes_are_guessed_with_three_channels() -> None:
    found = shapes(info("x", "N", None, "h", "w"))
    assert found[0] == [(2, 3, 64, 64)]
    assert [(2, 3, 224, 224)] in found


def test_two_inputs_get_the_same_guess() -> None:
    found = shapes(info("ids", "N", "s", dtype="int64"), info("attention_mask", "N", "s", dtype="int64"))
    assert all(first == second for first, second in found)
    assert len(found) > 1


def test_integers_are_indices_that_every_table_has_and_masks_are_open() -> None:
    guess = next(sample_rows([info("ids", "N", 4, dtype="int64"), info("mask", "N", 4, dtype="int64")], 2))
    assert guess["ids"].dtype is torch.int64
    assert (guess["ids"] == 0).all()
    assert (guess["mask"] == 1).all()


def test_types_that_no_data_can_have_give_nothing() -> None:
    assert shapes(info("x", 2, dtype="complex64")) == []


def test_what_was_guessed_is_told() -> None:
    assert guessed([info("x", "N", 3, "height", None)]) == ["height of 'x'", "dimension 3 of 'x'"]
    assert guessed([info("x", "N", 3)]) == []
