"""Runs summed up: mean and standard deviation of each method in each cell, and what is asked of ours."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.accuracy import fingerprint
from benchmarks.accuracy.peers import PEERS
from benchmarks.accuracy.run import Run
from benchmarks.accuracy.tasks import Cell, Task


@dataclass(frozen=True)
class Summary:
    """A method in a cell.

    Args:
        runs: one a seed.
        stale: whether the method has changed since.
    """

    method: str
    runs: tuple[Run, ...]
    stale: bool

    @property
    def mean(self) -> float:
        """Of the metric at the density asked for."""
        return statistics.fmean(run.value for run in self.runs)

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds; 0 for a single one."""
        return statistics.stdev(run.value for run in self.runs) if len(self.runs) > 1 else 0.0

    @property
    def reached(self) -> float:
        """Density that the method itself ended at, mean."""
        return statistics.fmean(run.reached_kept / run.prunable for run in self.runs)

    @property
    def reached_mean(self) -> float:
        """The metric there."""
        return statistics.fmean(run.reached_value for run in self.runs)

    @property
    def cut(self) -> bool:
        """Whether more was kept than asked for, so that weights had to be cut away."""
        return any(run.reached_kept > run.kept for run in self.runs)


def summaries(task: Task, cell: Cell, runs: Iterable[Run], device: str) -> dict[str, Summary]:
    """The methods that have runs in the cell; of several states of a method the one with most seeds."""
    mine = [
        run
        for run in runs
        if run.task == task.name
        and run.density == cell.density
        and run.device == device
        and run.epochs == cell.length(device)
    ]
    found = {}
    for method in (*fingerprint.OURS, *PEERS):
        states: dict[str, list[Run]] = {}
        for run in mine:
            if run.method == method:
                states.setdefault(run.fingerprint, []).append(run)
        if states:
            current = fingerprint.of_ours(method, task) if method in fingerprint.OURS else ""
            state = max(
                states, key=lambda s: (len(states[s]), s == current, max(run.date for run in states[s]))
            )
            ordered = tuple(sorted(states[state], key=lambda run: run.seed))
            found[method] = Summary(method, ordered, method in fingerprint.OURS and state != current)
    return found


def best_peer(found: dict[str, Summary], task: Task) -> Summary | None:
    """The peer with the best mean at the density asked for."""
    peers = [summary for method, summary in found.items() if method in PEERS]
    sign = 1.0 if task.higher_is_better else -1.0
    return max(peers, key=lambda summary: sign * summary.mean, default=None)


@dataclass(frozen=True)
class Verdict:
    """What is asked of `gumbel` in a cell, of itself or beside its peers, and whether it is met.

    `met` is None where it cannot be said yet.
    """

    asked: str
    met: bool | None
    beside_peers: bool = True


def verdicts(task: Task, cell: Cell, found: dict[str, Summary], device: str) -> list[Verdict]:
    """Everything that is asked in this cell."""
    ours, peer = found.get("gumbel"), best_peer(found, task)
    judged = []
    target = task.targets.get((cell.density, cell.length(device)))
    if target is not None:
        met = None if ours is None else round(ours.mean, 2) >= target
        judged.append(Verdict(f"at least {target:g}", met, beside_peers=False))
    sign = 1.0 if task.higher_is_better else -1.0
    ahead = None if ours is None or peer is None else sign * (ours.mean - peer.mean)
    margin = task.margin_at.get(cell.density)
    if margin is not None:
        judged.append(Verdict(f"{margin:g} over every peer", None if ahead is None else ahead >= margin))
    elif task.margin_at:
        judged.append(Verdict("not below any peer", None if ahead is None else ahead >= 0.0))
    elif target is None:
        slack = peer.deviation if peer is not None else 0.0
        judged.append(
            Verdict("at most one deviation below the best peer", None if ahead is None else ahead >= -slack)
        )
    return judged
