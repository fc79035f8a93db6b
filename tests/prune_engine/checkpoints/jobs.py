"""Jobs in folders, whose real child processes are ended and started again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prune_engine.data.built_in import digits
from prune_engine.events import CheckpointEvent, Event, StageEvent, parse_event
from tests.trained import digits_net, export

STAMPS = ("created_at", "job_id", "durations", "latency", "environment", "model", "data")
"""Of a report: what two runs of the same may differ in, and what has nothing to do with the run."""


def convolutions() -> nn.Module:
    """A net of convolutions with BatchNorm and Dropout on digits, trained for a moment."""
    torch.manual_seed(0)
    rows = digits()
    x, y = (
        torch.from_numpy(rows["x_train"]).float().reshape(-1, 1, 8, 8) / 16,
        torch.from_numpy(rows["y_train"]),
    )
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(144, 10),
    )
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for index in torch.arange(len(x)).split(100) * 4:
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x[index]), y.long()[index]).backward()
        optimiser.step()
    return net


def job(folder: Path, *, net: nn.Module | None = None, seconds: float = 0.0, **spec: Any) -> Path:
    """A folder with a job in it; a checkpoint is written after every step."""
    folder.mkdir(parents=True, exist_ok=True)
    export(net or digits_net(digits()), torch.zeros(1, 1, 8, 8), folder / "model.onnx")
    np.savez(folder / "data.npz", **digits())
    (folder / "spec.json").write_text(json.dumps({"epochs": 4, "batch_size": 140, "device": "cpu", **spec}))
    (folder / "job.json").write_text(json.dumps({"checkpoint_seconds": seconds}))
    return folder


@dataclass(frozen=True)
class Ended:
    """A child that is gone: its exit status, negative for a signal, and what it had said."""

    status: int
    events: list[Event]


def at_step(step: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, CheckpointEvent) and event.step >= step


def at_stage(stage: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, StageEvent) and event.stage == stage


def run(
    folder: Path,
    when: Callable[[Event], bool] | None = None,
    how: signal.Signals = signal.SIGKILL,
    ranks: int | None = None,
) -> Ended:
    """Run the job's child; send it `how` at the first event for which `when` holds."""
    command = [sys.executable, "-m", "prune_engine", "run", str(folder)]
    if ranks is not None:
        command += ["--ranks", str(ranks)]
    events: list[Event] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            events.append(parse_event(line))
            if when is not None and when(events[-1]):
                child.send_signal(how)
                when = None
    return Ended(child.returncode, events)


def assert_same_outcome(one: Path, other: Path) -> None:
    """The same files to the byte, and the same figures in the report."""
    for name in ("model.onnx", "masks.npz"):
        assert (one / "out" / name).read_bytes() == (other / "out" / name).read_bytes(), name
    left, right = report(one), report(other)
    for name, value in left.items():
        if name not in STAMPS:
            assert _timeless(value) == _timeless(right[name]), name


def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "out" / "report.json").read_text())
    return content


def _timeless(value: Any) -> Any:
    """Without what was measured with a clock."""
    if isinstance(value, dict):
        return {name: _timeless(one) for name, one in value.items() if "latency" not in name}
    return [_timeless(one) for one in value] if isinstance(value, list) else value
