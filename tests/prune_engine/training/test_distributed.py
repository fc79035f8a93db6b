"""Two processes that train together: one training, the same on both, and that of one process alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

RUN = "tests.prune_engine.training.rank_run"
Values = dict[str, np.ndarray[Any, Any]]


def load(path: Path) -> Values:
    with np.load(path) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes together have written, and one alone."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    together = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for command in ([*together, "-m", RUN], [sys.executable, "-m", RUN]):
        done = subprocess.run([*command, str(folder)], env=environment, capture_output=True, timeout=200)
        assert done.returncode == 0, done.stderr.decode()[-3000:]
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[Values, Values, Values]:
    """Of rank 0, of rank 1, and of a process alone."""
    first, second, alone = (load(folder / name) for name in ("0-of-2.npz", "1-of-2.npz", "0-of-1.npz"))
    return first, second, alone


def test_masks_values_and_loss_are_the_same_bits_on_every_rank(
    trained: tuple[Values, Values, Values],
) -> None:
    first, second, _ = trained
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_two_ranks_train_as_one_process_does_with_the_same_batches(
    trained: tuple[Values, Values, Values],
) -> None:
    """Sums in another order differ in the last digit, and the gates of a few weights with them."""
    first, _, alone = trained
    assert np.allclose(first["curve"][:5], alone["curve"][:5], rtol=1e-4)
    masks = [name for name in first if name.startswith("mask ")]
    kept = sum(int(first[name].sum()) for name in masks)
    assert kept == sum(int(alone[name].sum()) for name in masks) > 0
    both = sum(int((first[name] & alone[name]).sum()) for name in masks)
    assert both > 0.8 * kept
    assert np.allclose(first["curve"][-5:].mean(), alone["curve"][-5:].mean(), rtol=0.2)


def test_statistics_are_averaged_and_constants_stay(folder: Path) -> None:
    for rank in (0, 1):
        found = load(folder / f"buffers-{rank}-of-2.npz")
        assert found["mean"].tolist() == [0.5] * 3
        [mask] = [value for name, value in found.items() if "mask" in name]
        assert (mask == np.finfo(np.float32).min).all()
