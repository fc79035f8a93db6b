"""Whether changed code still trains the same: a few stored runs are made again, and the rest is taken over.

The fingerprint of our runs is that of the code, so code that was only written otherwise makes hours of runs
due again. On the same machine the same rule gives the same network, so its accuracy is the same in every
digit: where that holds at the densest and at the sparsest cell of a task, the other runs of that state stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from benchmarks.accuracy import fingerprint
from benchmarks.accuracy.run import Run, device_here
from benchmarks.accuracy.tasks import TASKS

Again = Callable[[Run], float]


@dataclass(frozen=True)
class Confirmation:
    """What came of it for one method on one task.

    Args:
        again: runs that were made again, and what they came to.
        confirmed: all runs of that state under today's fingerprint; none where a figure differs.
    """

    task: str
    method: str
    again: tuple[tuple[Run, float], ...]
    confirmed: tuple[Run, ...]


def confirm(runs: Iterable[Run], tasks: Iterable[str], again: Again) -> Iterator[Confirmation]:
    """Go through the methods of ours whose code has changed since they were run here.

    Args:
        runs: all that are stored.
        tasks: names of those to look at.
        again: makes a run again, with today's code; its metric as it would be stored.
    """
    device = device_here().type
    stored = [run for run in runs if run.device == device]
    for name in tasks:
        for method in fingerprint.OURS:
            now = fingerprint.of_ours(method, TASKS[name])
            mine = [run for run in stored if run.task == name and run.method == method]
            known = {_place(run) for run in mine if run.fingerprint == now}
            state = _largest(run for run in mine if run.fingerprint != now and _place(run) not in known)
            if not state:
                continue
            tried = tuple((run, again(run)) for run in _ends(state))
            same = all(value == run.value for run, value in tried)
            taken = (replace(run, fingerprint=now, measured_as=run.first_fingerprint) for run in state)
            yield Confirmation(name, method, tried, tuple(taken) if same else ())


def _place(run: Run) -> tuple[float, int, int]:
    return run.density, run.epochs, run.seed


def _largest(runs: Iterable[Run]) -> list[Run]:
    """The runs of the state that has most of them, of several the latest."""
    states: dict[str, list[Run]] = {}
    for run in runs:
        states.setdefault(run.fingerprint, []).append(run)
    return max(states.values(), key=lambda state: (len(state), max(run.date for run in state)), default=[])


def _ends(state: list[Run]) -> list[Run]:
    """The densest and the sparsest run, of the first seed that they have."""
    sparsest = min(state, key=lambda run: (run.density, run.seed))
    densest = min(state, key=lambda run: (-run.density, run.seed))
    return [densest] if densest.density == sparsest.density else [densest, sparsest]
