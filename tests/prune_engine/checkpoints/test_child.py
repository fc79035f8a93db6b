"""Real children: ended by SIGTERM and SIGKILL, they go on and end with the same bytes."""

from __future__ import annotations

import signal
from pathlib import Path

from prune_engine.events import (
    CheckpointEvent,
    DoneEvent,
    StageEvent,
    StartedEvent,
    StoppedEvent,
)
from tests.prune_engine.checkpoints.jobs import (
    Ended,
    assert_same_outcome,
    at_stage,
    at_step,
    convolutions,
    job,
    report,
    run,
)


def checkpoints(ended: Ended) -> list[CheckpointEvent]:
    return [event for event in ended.events if isinstance(event, CheckpointEvent)]


def test_sigterm_finishes_the_step_and_the_next_attempt_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """A net of convolutions with BatchNorm; SIGTERM while gates are open, SIGKILL in fine-tuning."""
    net = convolutions()
    whole = job(tmp_path / "whole", net=net, seconds=60.0, density=0.2)
    assert run(whole).status == 0
    folder = job(tmp_path / "ended", net=net, density=0.2)
    stopped = run(folder, at_step(9), signal.SIGTERM)
    assert stopped.status == 3
    assert isinstance(stopped.events[-1], StoppedEvent)
    last = checkpoints(stopped)[-1]
    assert last.total_steps == 40
    assert last.files[-1] == "checkpoint.json"
    assert all((folder / name).exists() for name in last.files)
    assert len(list(folder.glob("checkpoint-*.safetensors"))) == len(last.files) - 1
    killed = run(folder, at_stage("finetuning"))
    assert killed.status == -signal.SIGKILL
    assert checkpoints(killed)[0].step == last.step + 1
    done = run(folder)
    assert isinstance(done.events[-1], DoneEvent)
    assert checkpoints(done)[0].step > checkpoints(killed)[-1].step - 2
    assert_same_outcome(whole, folder)
    assert report(folder)["durations"]["total"] > report(whole)["durations"]["total"]
    assert list(folder.glob("checkpoint*")) == []


def test_sigterm_before_the_training_stops_at_once(tmp_path: Path) -> None:
    folder = job(tmp_path, density=0.2)
    stopped = run(folder, lambda event: isinstance(event, StartedEvent), signal.SIGTERM)
    assert stopped.status == 3
    assert isinstance(stopped.events[-1], StoppedEvent)
    assert not any(isinstance(event, StageEvent) for event in stopped.events)
    assert not (folder / "checkpoint.json").exists()


def test_sigterm_after_the_training_leaves_its_last_checkpoint(tmp_path: Path) -> None:
    folder = job(tmp_path, density=0.2, epochs=2)
    stopped = run(folder, at_stage("exporting"), signal.SIGTERM)
    assert stopped.status == 3
    assert isinstance(stopped.events[-1], StoppedEvent)
    assert checkpoints(stopped)[-1].step == 20
    done = run(folder)
    assert done.status == 0
    assert checkpoints(done) == []


def test_two_ranks_go_on_at_the_same_step(tmp_path: Path) -> None:
    whole = job(tmp_path / "whole", seconds=60.0, density=0.2)
    assert run(whole, ranks=2).status == 0
    folder = job(tmp_path / "ended", density=0.2)
    stopped = run(folder, at_step(15), signal.SIGTERM, ranks=2)
    assert stopped.status == 3
    assert isinstance(stopped.events[-1], StoppedEvent)
    done = run(folder, ranks=2)
    assert done.status == 0
    assert checkpoints(done)[0].step == checkpoints(stopped)[-1].step + 1
    assert_same_outcome(whole, folder)
