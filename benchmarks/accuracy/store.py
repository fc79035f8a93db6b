"""Runs on disk: a file each, so that processes can share the work; collected, the committed results."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from benchmarks.accuracy.rows import CACHE
from benchmarks.accuracy.run import Run
from benchmarks.machine import RESULTS

Key = tuple[str, float, int, str, int, str]


def key(run: Run) -> Key:
    """What makes two runs the same."""
    return run.task, run.density, run.epochs, f"{run.method} on {run.device}", run.seed, run.fingerprint


class Store:
    """Runs of this machine under `folder`, and those that were collected into `collected`."""

    def __init__(
        self, folder: Path = CACHE / "accuracy" / "runs", collected: Path = RESULTS / "accuracy.json"
    ) -> None:
        self.folder = folder
        self.collected = collected

    def add(self, run: Run) -> None:
        """Store one run, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        parts = (run.task, f"{100 * run.density:g}", f"{run.epochs}e", run.method, run.device, run.seed)
        path = self.folder / f"{'-'.join(map(str, parts))}-{run.fingerprint}.json"
        write_whole(path, json.dumps(run.as_dict(), indent=1) + "\n")

    def runs(self) -> dict[Key, Run]:
        """All that there are; what this machine measured last replaces what was collected."""
        found: dict[Key, Run] = {}
        if self.collected.exists():
            for fields in json.loads(self.collected.read_text(encoding="utf-8"))["runs"]:
                run = Run(**fields)
                found[key(run)] = run
        for path in sorted(self.folder.glob("*.json")):
            run = Run(**json.loads(path.read_text(encoding="utf-8")))
            found[key(run)] = run
        return found

    def collect(self, runs: Iterable[Run]) -> None:
        """Write the runs into the one file that is committed, a line each."""
        lines = [json.dumps(run.as_dict()) for run in sorted(runs, key=lambda run: str(key(run)))]
        self.collected.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.collected, '{"runs": [\n' + ",\n".join(lines) + "\n]}\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file that is never seen half-written."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
