"""When checkpoints are written, what of them stays, and that nothing about them can end a job."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prune_engine.checkpoints import keeper, tensors
from prune_engine.checkpoints.folder import CheckpointFolder
from prune_engine.checkpoints.identity import digest_of
from prune_engine.checkpoints.keeper import Checkpoints, Level, Part, UnfitCheckpointError, fitting
from prune_engine.checkpoints.stopping import Stop, StoppedError
from prune_engine.events import CheckpointEvent, WarningEvent
from prune_engine.spec import PruneSpec
from prune_engine.state import State


class Work:
    """A run of which a checkpoint can be written."""

    def __init__(self, folder: Path, seconds: float = 0.0, digest: str = "this") -> None:
        self.heard: list[Any] = []
        self.keeper = Checkpoints(folder, seconds)
        self.keeper.begin(digest, self.heard.append)
        self.step = 0
        self.state: State = {"values": torch.arange(4.0), "count": 7}
        self.parts = {"kept": Part({"before": torch.ones(3)})}

    def level(self) -> Level:
        notes = {"step": self.step, "total_steps": 9, "third": 1 / 3, "none": None, "far": float("inf")}
        return Level(notes, self.state, self.parts)

    def steps(self, count: int) -> None:
        with self.keeper.training(self.level):
            for _ in range(count):
                self.step += 1
                self.keeper.between_steps()

    @property
    def written(self) -> list[CheckpointEvent]:
        return [event for event in self.heard if isinstance(event, CheckpointEvent)]

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.heard if isinstance(event, WarningEvent)]


def test_what_is_written_is_found_once(tmp_path: Path) -> None:
    Work(tmp_path).steps(2)
    found = Checkpoints(tmp_path)
    found.begin("this", lambda event: None)
    assert found.goes_on("run")
    level = found.found("run")
    assert level is not None
    assert level.notes == {"step": 2, "total_steps": 9, "third": 1 / 3, "none": None, "far": float("inf")}
    assert level.state is not None
    assert level.state["count"] == 7
    assert torch.equal(level.state["values"], torch.arange(4.0))  # type: ignore[arg-type]
    assert torch.equal(level.parts["kept"].state["before"], torch.ones(3))  # type: ignore[arg-type]
    assert found.found("run") is None
    assert not found.goes_on("run")


def test_a_part_is_written_once_and_old_files_go(tmp_path: Path) -> None:
    work = Work(tmp_path)
    (tmp_path / "model.onnx").touch()
    work.steps(3)
    assert [event.step for event in work.written] == [1, 2, 3]
    names = ["checkpoint-1-run-kept.safetensors", "checkpoint-3.safetensors", "checkpoint.json"]
    assert work.written[-1].files == names
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "model.onnx"]
    again = Work(tmp_path)
    again.parts = again.keeper.found("run").parts  # type: ignore[union-attr]
    again.steps(1)
    assert again.written[-1].files == [names[0], "checkpoint-4.safetensors", names[2]]
    again.keeper.end()
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_there_is_time_between_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(keeper.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(
        tensors, "write", lambda state, path: (now.__setitem__(0, now[0] + 2.0), path.touch())
    )
    work = Work(tmp_path, 60.0)
    with work.keeper.training(work.level):
        for _ in range(300):
            now[0] += 1.0
            work.step += 1
            work.keeper.between_steps()
    times = [event.step for event in work.written]
    assert times[0] == 60
    # The first takes 4 s (two files), which is a twentieth of 80 s; the others 2 s.
    assert np.diff(times).tolist() == [76, 58, 58]


def test_a_stop_waits_for_the_step_and_its_checkpoint(tmp_path: Path) -> None:
    work = Work(tmp_path, 60.0)
    work.keeper.stop.ask()
    with pytest.raises(StoppedError):
        work.steps(5)
    assert [event.step for event in work.written] == [1]
    stop = Stop()
    with stop.deferred():
        stop.now()
        with pytest.raises(StoppedError):
            raise StoppedError
        stop.asked = False
    with pytest.raises(StoppedError):
        stop.now()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "checkpoint.json").write_text("{"), "checkpoint.json is damaged"),
        (lambda folder: (folder / "checkpoint-1.safetensors").unlink(), "missing or damaged"),
        (lambda folder: (folder / "checkpoint-1.safetensors").write_bytes(b"no"), "missing or damaged"),
        (lambda folder: _alter(folder, "engine", "0.0.7"), "version 0.0.7"),
        (lambda folder: _alter(folder, "digest", "that"), "another model"),
        (lambda folder: _alter(folder, "format", 99), "of another version"),
    ],
)
def test_one_that_cannot_be_used_is_a_warning(tmp_path: Path, spoil: Any, reason: str) -> None:
    Work(tmp_path).steps(1)
    spoil(tmp_path)
    work = Work(tmp_path)
    (said,) = work.warnings
    assert reason in said
    assert not work.keeper.goes_on("run")
    assert work.keeper.warnings == [said]
    work.steps(1)
    assert not Work(tmp_path).warnings


def _alter(folder: Path, field: str, value: Any) -> None:
    path = folder / "checkpoint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))


def test_a_name_that_leads_elsewhere_is_no_checkpoint(tmp_path: Path) -> None:
    Work(tmp_path).steps(1)
    path = tmp_path / "checkpoint.json"
    path.write_text(path.read_text().replace("checkpoint-1.safetensors", "../checkpoint-1.safetensors"))
    assert "damaged" in Work(tmp_path).warnings[0]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_warning_and_the_checkpoint_before_stays(small_disk: Path) -> None:
    work = Work(small_disk)
    work.steps(1)
    work.state = {"values": torch.zeros(1 << 20)}
    work.steps(3)
    (said,) = work.warnings
    assert "No space left" in said
    assert [event.step for event in work.written] == [1]
    assert not Work(small_disk).warnings
    assert Work(small_disk).keeper.found("run").notes["step"] == 1  # type: ignore[union-attr]
    work.state = {"values": torch.zeros(4)}
    work.steps(1)
    assert [event.step for event in work.written] == [1, 5]
    assert work.keeper.on_disk({"values": torch.zeros(1 << 20)}) is None


def test_every_kind_of_tensor_comes_back(tmp_path: Path) -> None:
    kinds = [
        torch.float64,
        torch.float32,
        torch.bfloat16,
        torch.float16,
        torch.int64,
        torch.uint8,
        torch.bool,
    ]
    state: State = {str(kind): torch.ones(2, 3, dtype=kind) for kind in kinds}
    state |= {
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 6),
        "part": torch.arange(9.0)[2:5],
        "n": 1 / 3,
    }
    state["nan"] = torch.tensor([float("nan"), float("-inf"), -0.0])
    folder = CheckpointFolder(tmp_path)
    back = folder.load(folder.store(state, "checkpoint-1.safetensors"))
    assert back.keys() == state.keys()
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            there = back[name]
            assert isinstance(there, torch.Tensor)
            assert (there.dtype, there.shape) == (value.dtype, value.shape)
            assert there.reshape(-1).view(torch.uint8).equal(value.reshape(-1).contiguous().view(torch.uint8))
        else:
            assert back[name] == value


def test_what_does_not_fit_has_one_name() -> None:
    with pytest.raises(UnfitCheckpointError, match="KeyError"), fitting():
        raise KeyError("values")


def test_the_digest_tells_requests_apart(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"one")
    (tmp_path / "b.onnx").write_bytes(b"one")
    (tmp_path / "c.onnx").write_bytes(b"two")
    arrays = {"x": np.zeros((3, 2), np.float32)}
    spec, other = PruneSpec(density=0.5), PruneSpec(density=0.5, seed=1)
    first = digest_of(spec, tmp_path / "a.onnx", arrays)
    assert first == digest_of(spec, tmp_path / "b.onnx", {"x": arrays["x"].copy()})
    assert first != digest_of(other, tmp_path / "a.onnx", arrays)
    assert first != digest_of(spec, tmp_path / "c.onnx", arrays)
    assert first != digest_of(spec, tmp_path / "a.onnx", {"x": np.zeros((2, 3), np.float32)})
    assert first != digest_of(spec, tmp_path / "a.onnx", "digits")
    assert first != digest_of(spec, tmp_path / "a.onnx", arrays, tmp_path / "c.onnx")
