"""Whether changed code still trains the same: a stored run of each cell is made again, the others taken over.

The fingerprint of our runs is that of the code, so code that was only written otherwise, or a rule that was
changed for a few densities, makes hours of runs due again. On the same machine the same rule gives the same
network, so its accuracy is the same in every digit: where that holds for one run of a cell, the other runs
of that cell and state stand. Runs from dense nets that are not the ones here cannot tell, nor do they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from benchmarks.accuracy import fingerprint
from benchmarks.accuracy.run import Run, device_here
from benchmarks.accuracy.tasks import TASKS

Again = Callable[[Run], float]
DenseValue = Callable[[str, int], float]


@dataclass(frozen=True)
class Confirmation:
    """What came of it for one method in one cell.

    Args:
        tried: the run that was made again.
        value: what it came to.
        confirmed: all runs of that cell and state under today's fingerprint; none where the figure differs.
    """

    tried: Run
    value: float
    confirmed: tuple[Run, ...]


def confirm(
    runs: Iterable[Run], tasks: Iterable[str], again: Again, dense: DenseValue
) -> Iterator[Confirmation]:
    """Go through the cells of our methods whose code has changed since they were run here.

    Args:
        runs: all that are stored.
        tasks: names of those to look at.
        again: makes a run again, with today's code; its metric as it would be stored.
        dense: the metric of the dense net of a task and a seed that is here, as it is stored.
    """
    device = device_here().type
    stored = [run for run in runs if run.device == device]
    for name in tasks:
        for method in fingerprint.OURS:
            now = fingerprint.of_ours(method, TASKS[name])
            mine = [run for run in stored if run.task == name and run.method == method]
            known = {_place(run) for run in mine if run.fingerprint == now}
            due = [run for run in mine if run.fingerprint != now and _place(run) not in known]
            for cell in dict.fromkeys((run.density, run.epochs) for run in due):
                here = [run for run in due if (run.density, run.epochs) == cell]
                state = _largest(run for run in here if run.dense == dense(name, run.seed))
                if not state:
                    continue
                value = again(state[0])
                taken = [replace(run, fingerprint=now, measured_as=run.first_fingerprint) for run in state]
                yield Confirmation(state[0], value, tuple(taken) if value == state[0].value else ())


def _place(run: Run) -> tuple[float, int, int]:
    return run.density, run.epochs, run.seed


def _largest(runs: Iterable[Run]) -> list[Run]:
    """The runs of the state that has most of them, of several the latest, by seed."""
    states: dict[str, list[Run]] = {}
    for run in runs:
        states.setdefault(run.fingerprint, []).append(run)
    largest = max(states.values(), key=lambda state: (len(state), max(run.date for run in state)), default=[])
    return sorted(largest, key=lambda run: run.seed)
