"""What is still to be run, in which order, and about how long that takes."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.accuracy import fingerprint
from benchmarks.accuracy.choosing import Choices
from benchmarks.accuracy.peers import PEERS, Settings, missing
from benchmarks.accuracy.run import Run, device_here
from benchmarks.accuracy.store import Key
from benchmarks.accuracy.tasks import SEEDS, TASKS, Cell, Task

METHODS = (*fingerprint.OURS, *PEERS)
GUESS = {"lenet300": 60.0, "housing": 15.0, "sst2": 60.0, "resnet20": 400.0, "lenet5": 250.0, "digits": 2.0}
"""Seconds of a run where nothing like it was measured yet."""


@dataclass(frozen=True)
class Selection:
    """Which runs are wanted."""

    tasks: tuple[str, ...]
    methods: tuple[str, ...] = METHODS
    densities: tuple[float, ...] | None = None
    seeds: tuple[int, ...] = SEEDS


@dataclass(frozen=True)
class Due:
    """A run that is to be made; `settings` of a peer, None where they are still to be chosen."""

    task: Task
    cell: Cell
    method: str
    seed: int
    settings: Settings | None

    @property
    def fingerprint(self) -> str:
        """What the run is stored with."""
        if self.method in fingerprint.OURS:
            return fingerprint.of_ours(self.method, self.task)
        return fingerprint.of_peer(self.method, self.task, self.settings or {})


def due(selection: Selection, stored: Mapping[Key, Run], choices: Choices) -> list[Due]:
    """Runs of the selection that are not stored, in order; without peers that are not installed."""
    device = device_here().type
    wanted = []
    for task in (TASKS[name] for name in selection.tasks):
        for seed in selection.seeds:
            for cell in task.cells:
                if selection.densities is not None and cell.density not in selection.densities:
                    continue
                for method in selection.methods:
                    settings = None
                    if method == fingerprint.UNMOVED and not task.moves:
                        continue
                    if method in PEERS:
                        if missing(method):
                            continue
                        settings = choices.settings(task, method, cell.density)
                    run = Due(task, cell, method, seed, settings)
                    place = (task.name, cell.density, cell.length(device), f"{method} on {device}", seed)
                    if (method in PEERS and settings is None) or (*place, run.fingerprint) not in stored:
                        wanted.append(run)
    return wanted


def together(first: Due, others: Iterable[Due]) -> list[Due]:
    """`first` and those of `others` that the same training serves."""
    if first.settings is None or PEERS[first.method].follows_density(first.settings):
        return [first]
    device = device_here().type

    def same(run: Due) -> bool:
        mine, its = ((r.task.name, r.method, r.seed, r.cell.length(device)) for r in (first, run))
        return mine == its and run.settings == first.settings

    return [first, *(run for run in others if run is not first and same(run))]


def seconds_of(run: Due, stored: Iterable[Run]) -> float:
    """Wall time of a run: the median of the like, else of the task, else a guess."""
    device = device_here().type
    task = [part for part in stored if part.task == run.task.name and part.device == device]
    like = [part for part in task if part.method == run.method and part.epochs == run.cell.length(device)]
    for parts in (like, task):
        if parts:
            return statistics.median(part.seconds for part in parts)
    return GUESS[run.task.name]


def status(runs: Sequence[Due], stored: Iterable[Run]) -> list[str]:
    """A line a task: how much is left, and how long that takes."""
    stored = list(stored)
    lines = []
    for name in dict.fromkeys(run.task.name for run in runs):
        part = [run for run in runs if run.task.name == name]
        seconds, seen = 0.0, set[int]()
        for run in part:
            if id(run) not in seen:
                group = together(run, part)
                seen.update(id(member) for member in group)
                seconds += seconds_of(run, stored)
        unchosen = {run.method for run in part if run.method in PEERS and run.settings is None}
        seconds += len(unchosen) * TASKS[name].tries * GUESS[name]
        lines.append(f"{name}: {len(part)} runs left, about {seconds / 60:.0f} minutes")
    return lines or ["nothing is left to run"]
