"""What a checkpoint of a large model costs: seconds, bytes, and the memory that it takes beside the training.

    python -m benchmarks.checkpoints

The training of `benchmarks.memory`, 25 million weights at density 5 %, with a checkpoint after every step and
without any, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import store
from benchmarks.memory import gated
from prune_engine.checkpoints.keeper import NOTHING_KEPT, Checkpoints
from prune_engine.events import CheckpointEvent

DENSITY = 0.05


class Timed(Checkpoints):
    """Notes how long each checkpoint took, and how many bytes it has."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, seconds=0.0)
        self.folder = folder
        self.phases: list[dict[str, Any]] = []
        self.begin("benchmark", self._note)

    def between_steps(self) -> None:
        """Time the writing."""
        self._begun = time.perf_counter()
        super().between_steps()

    def _note(self, event: object) -> None:
        if isinstance(event, CheckpointEvent):
            sizes = {name: (self.folder / name).stat().st_size for name in event.files}
            seconds = time.perf_counter() - self._begun
            self.phases.append({"seconds": seconds, "files": len(sizes) - 1, "bytes": sum(sizes.values())})


def measured(folder: Path | None) -> dict[str, Any]:
    """The peak of the memory, and what each checkpoint took."""
    timed = NOTHING_KEPT if folder is None else Timed(folder)
    peak = gated(DENSITY, timed)
    return {"peak": peak, "checkpoints": timed.phases if isinstance(timed, Timed) else []}


def apart(*arguments: str) -> dict[str, Any]:
    """`measured` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.checkpoints", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--without", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.folder or arguments.without:
        print(json.dumps(measured(arguments.folder)))
        return
    without = apart("--without")
    with tempfile.TemporaryDirectory() as folder:
        found = apart("--in", folder)
    rows = []
    for phase, sizes in (("gates open", max), ("mask fixed", min)):
        bound = sizes(one["bytes"] for one in found["checkpoints"])
        alike = [one for one in found["checkpoints"] if abs(one["bytes"] - bound) < 0.1 * bound]
        rows.append(
            {
                "phase": phase,
                "MiB": bound >> 20,
                "seconds, median": round(statistics.median(one["seconds"] for one in alike), 2),
            }
        )
    store(
        "checkpoints",
        "What a checkpoint costs",
        rows,
        [
            "An MLP of 25 million prunable weights, density 0.05, one thread, a checkpoint after every step. "
            "MiB: all files that a checkpoint needs, the snapshot for a step back included.",
            f"Highest memory of the training: {without['peak'] >> 20} MiB without checkpoints, "
            f"{found['peak'] >> 20} MiB with.",
        ],
    )


if __name__ == "__main__":
    main()
