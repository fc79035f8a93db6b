"""Whole jobs of every kind, killed at moments that nobody chose, over and over: in the end the same bytes."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest

from prune_engine.events import CheckpointEvent, DoneEvent
from tests.prune_engine.checkpoints.jobs import Ended, assert_same_outcome, at_step, convolutions, job, run

JOBS: dict[str, dict[str, Any]] = {
    "single": {"density": 0.05, "epochs": 8},
    "convolutions": {"density": 0.2, "net": True},
    "frontier": {"frontier": [1.0, 0.5, 0.2, 0.05]},
    "target": {"target": {"max_accuracy_drop": 0.1}},
    "magnitude": {"density": 0.1, "method": "magnitude"},
    "groups": {"density": 0.5, "granularity": "2:4"},
    "blocks": {"density": 0.2, "granularity": "4x1"},
    "mask alone": {"density": 0.3, "train_weights": False},
    "fresh weights": {"density": 0.2, "init": "random"},
}
KILLS = 6


@pytest.mark.chaos
@pytest.mark.parametrize("kind", JOBS)
def test_a_job_that_is_killed_again_and_again(kind: str, tmp_path: Path) -> None:
    fields = dict(JOBS[kind])
    net = convolutions() if fields.pop("net", False) else None
    whole = job(tmp_path / "whole", net=net, seconds=60.0, **fields)
    assert run(whole).status == 0
    folder = job(tmp_path / "killed", net=net, **fields)
    chance = random.Random(kind)
    at = 0
    for _ in range(KILLS):
        at += chance.randint(1, 14)
        how = chance.choice([signal.SIGKILL, signal.SIGTERM])
        ended = run(folder, at_step(at), how)
        assert ended.status in (3, -signal.SIGKILL, 0)
        if ended.status == 0:
            break
        at = last_step(ended)
    else:
        assert isinstance(run(folder).events[-1], DoneEvent)
    assert_same_outcome(whole, folder)


def last_step(ended: Ended) -> int:
    return max(event.step for event in ended.events if isinstance(event, CheckpointEvent))
