"""The child process: one event a line on stdout, nothing else; its exit status tells the rest."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prune_engine import child
from prune_engine.data.built_in import digits
from prune_engine.errors import ModelError
from prune_engine.events import DoneEvent, ErrorEvent, Event, StartedEvent, parse_event
from tests.trained import digits_net, export


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    export(digits_net(digits()), torch.zeros(1, 1, 8, 8), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", **digits())
    write(tmp_path, "spec.json", {"density": 0.2, "epochs": 2})
    write(
        tmp_path, "job.json", {"job_id": "job_1", "model_filename": "my net.onnx", "dataset_name": "mine.npz"}
    )
    return tmp_path


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def run(folder: Path) -> tuple[int, list[Event]]:
    command = [sys.executable, "-m", "prune_engine", "run", str(folder)]
    done = subprocess.run(command, capture_output=True, timeout=120)
    return done.returncode, [parse_event(line) for line in done.stdout.splitlines()]


def test_a_job_ends_with_done_and_all_files(folder: Path) -> None:
    status, events = run(folder)
    assert status == 0
    assert isinstance(events[0], StartedEvent)
    done = events[-1]
    assert isinstance(done, DoneEvent)
    assert done.metrics["after"]["accuracy"] > 50
    assert all((folder / "out" / name).stat().st_size > 0 for name in done.outputs)
    report = json.loads((folder / "out" / "report.json").read_text())
    assert (report["job_id"], report["model"]["filename"]) == ("job_1", "my net.onnx")
    assert report["data"]["name"] == "mine.npz"


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("spec.json", {"density": 7}, "spec_invalid"),
        ("spec.json", ["no object"], "spec_invalid"),
        ("model.onnx", "no model", "model_format_unknown"),
    ],
)
def test_bad_input_ends_with_an_error_and_status_2(folder: Path, name: str, content: Any, code: str) -> None:
    write(folder, name, content)
    status, events = run(folder)
    assert status == 2
    assert isinstance(events[-1], ErrorEvent)
    assert events[-1].code == code


def test_what_libraries_print_does_not_get_among_the_events(folder: Path) -> None:
    net = torch.jit.trace(digits_net(digits()).eval(), torch.zeros(1, 1, 8, 8))
    (folder / "model.onnx").unlink()
    net.save(str(folder / "model.pt"))
    status, events = run(folder)
    assert status == 0, events[-1]
    assert isinstance(events[-1], DoneEvent)


def test_a_data_set_is_fetched_and_its_path_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prune_engine", "fetch", "digits", "--cache-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert Path(json.loads(done.stdout)["path"]).is_file()


def test_an_unknown_data_set_is_an_error_with_its_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prune_engine", "fetch", "nonesuch", "--cache-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 2
    assert parse_event(done.stdout).code == "dataset_unknown"


@pytest.mark.parametrize(
    ("raised", "code", "status"),
    [
        (RecursionError("maximum recursion depth exceeded"), "model_too_large", 2),
        (MemoryError(), "out_of_memory", 1),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
            "out_of_memory",
            1,
        ),
        (ModelError("x" * 1_000_000), "model_invalid", 2),
    ],
)
def test_whatever_goes_wrong_is_one_event_of_bounded_length(
    raised: Exception, code: str, status: int
) -> None:
    """The worker reads no line of more than 64 kB, and a name in a message is as long as its sender likes."""
    said: list[str] = []

    def work() -> None:
        raise raised

    before = signal.getsignal(signal.SIGTERM)
    try:
        assert child._guarded(work, said.append) == status
    finally:
        signal.signal(signal.SIGTERM, before)
    event = parse_event(said[-1])
    assert isinstance(event, ErrorEvent)
    assert event.code == code
    assert len(said[-1]) < 5000
