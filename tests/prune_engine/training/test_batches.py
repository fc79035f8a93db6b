"""The order of rows: each once an epoch, the same for the same seed."""

from __future__ import annotations

from itertools import islice

import torch

from prune_engine.training.batches import Batches

CPU = torch.device("cpu")


def test_an_epoch_has_every_row_once() -> None:
    seen = torch.cat(list(islice(Batches(12, 4, 0, CPU), 3)))
    assert sorted(seen.tolist()) == list(range(12))


def test_epochs_differ_and_seeds_repeat() -> None:
    one, other = Batches(100, 50, 1, CPU), Batches(100, 50, 1, CPU)
    batches = list(islice(one, 4))
    assert all(torch.equal(a, b) for a, b in zip(batches, islice(other, 4), strict=True))
    assert not torch.equal(batches[0], batches[2])


def test_all_batches_are_full() -> None:
    assert {len(batch) for batch in islice(Batches(10, 4, 0, CPU), 20)} == {4}
    assert next(Batches(3, 5, 0, CPU)).tolist() == [0, 1, 2, 0, 1]
