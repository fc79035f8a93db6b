from __future__ import annotations

import pytest
import torch

from prune_engine.data.arrangement import arrangements
from prune_engine.data.rows import Rows
from prune_engine.data.transform import Transform
from prune_engine.spec import Preprocess


def rows(limit: int) -> Rows:
    raw = torch.arange(7 * 4 * 5 * 3, dtype=torch.float32).remainder(256).to(torch.uint8).reshape(7, 4, 5, 3)
    (way,) = arrangements((4, 5, 3), (3, 4, 5))
    transform = Transform(way, Preprocess(scale=1 / 255, mean=(0.5,)), torch.float32)
    return Rows([raw], [transform], torch.arange(7), ["pixels"], materialise_bytes=limit)


@pytest.mark.parametrize("index", [slice(2, 5), torch.tensor([6, 0, 3])])
def test_batches_are_the_same_whether_prepared_before_or_on_the_way(index: slice | torch.Tensor) -> None:
    early, late = rows(1 << 20), rows(0)
    assert early.materialised
    assert not late.materialised
    (a,), labels = early.batch(index)
    (b,), same = late.batch(index)
    assert a.shape == (3, 3, 4, 5)
    assert torch.equal(a, b)
    assert labels is not None
    assert same is not None
    assert torch.equal(labels, same)


def test_the_row_size_counts_what_the_model_gets() -> None:
    assert rows(1 << 20).row_bytes == rows(0).row_bytes == 4 * 5 * 3 * 4


def test_a_feed_is_named_like_the_models_inputs() -> None:
    feed = rows(0).feed(slice(0, 2))
    assert {name: array.shape for name, array in feed.items()} == {"pixels": (2, 3, 4, 5)}


def test_rows_move_to_another_device_as_a_whole() -> None:
    moved = rows(0).to("meta")
    (inputs,), labels = moved.batch(slice(0, 2))
    assert inputs.device.type == "meta"
    assert labels is not None
    assert labels.device.type == "meta"
    assert len(moved) == 7
