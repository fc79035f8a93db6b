"""Each peer's settings, chosen on held-out training rows by the same small search; ours has none to choose.

Seed 0, the task's `chosen_at` cells, as long as on a CPU; longer trainings on a GPU take the same settings.
The rate is tried three times up and down (by factors of three), once or twice more where the best is at the
edge; then what else the peer lets one set, at the best rate. What counts is the metric on the held-out rows
at the density asked for. The figures are kept in `settings.json`; a search that was interrupted goes on.
"""

from __future__ import annotations

import fcntl
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy.dense import dense_net
from benchmarks.accuracy.peers import PEERS, Settings
from benchmarks.accuracy.rows import CACHE, Rows
from benchmarks.accuracy.run import device_here, run_peer
from benchmarks.accuracy.store import write_whole
from benchmarks.accuracy.tasks import Cell, Task

FILE = Path(__file__).parent / "settings.json"
LOCK = CACHE / "accuracy" / "settings.lock"
STEP = 3.0


@dataclass(frozen=True)
class Try:
    """Settings and the metric on the held-out rows; NaN counts as the worst."""

    settings: dict[str, float | str]
    value: float


class Choices:
    """The file of all searches."""

    def __init__(self, path: Path = FILE) -> None:
        self._path = path

    def tries(self, task: Task, method: str, cell: Cell) -> list[Try]:
        """What was tried so far."""
        found = self._read().get(_name(task, method, cell), [])
        return [Try(dict(part["settings"]), float(part["value"])) for part in found]

    def add(self, task: Task, method: str, cell: Cell, tried: Try) -> None:
        """Note one try."""
        noted = {"settings": tried.settings, "value": round(tried.value, 4)}
        LOCK.parent.mkdir(parents=True, exist_ok=True)
        with LOCK.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another process may search another task
            everything = self._read()
            everything.setdefault(_name(task, method, cell), []).append(noted)
            write_whole(self._path, json.dumps(everything, indent=1, sort_keys=True) + "\n")

    def settings(self, task: Task, method: str, density: float) -> Settings | None:
        """The best of the nearest finished search; None where there is none."""
        nearest = min(task.chosen_at, key=lambda cell: abs(math.log(cell.density / density)))
        tried = self.tries(task, method, nearest)
        if not tried or next_try(PEERS[method].first_try, PEERS[method].others, tried, task) is not None:
            return None
        return best(tried, task).settings

    def _read(self) -> dict[str, list[dict[str, Any]]]:
        if not self._path.exists():
            return {}
        found: dict[str, list[dict[str, Any]]] = json.loads(self._path.read_text(encoding="utf-8"))
        return found


def choose(task: Task, method: str, rows: Rows, choices: Choices) -> Iterator[tuple[Cell, Try]]:
    """Search at each of the task's `chosen_at`; yields every new try."""
    if device_here().type == "cuda":
        raise RuntimeError(f"{method}: settings are searched for on a CPU, once for every device")
    peer = PEERS[method]
    part = rows.held_out(task.held_out)
    dense = dense_net(task, part, 0, for_choosing=True)
    for cell in task.chosen_at:
        while (
            settings := next_try(peer.first_try, peer.others, choices.tries(task, method, cell), task)
        ) is not None:
            outcome = run_peer(method, task, part, dense, [cell.density], cell.epochs, 0, settings)[0]
            tried = Try(dict(settings), outcome.value)
            choices.add(task, method, cell, tried)
            yield cell, tried


def next_try(first: Settings, others: Any, tried: list[Try], task: Task) -> dict[str, float | str] | None:
    """The settings to try next; None where the search is over."""
    if len(tried) >= task.tries:
        return None
    start = float(first["rate"])
    rates = [round(start * factor, 10) for factor in (1.0, 1.0 / STEP, STEP)]
    for settings in ({**first, "rate": float(f"{rate:.3g}")} for rate in rates):
        if not any(part.settings == settings for part in tried):
            return settings
    along = [part for part in tried if {**part.settings, "rate": 0} == {**first, "rate": 0}]
    leader = best(along, task)
    known = sorted(float(part.settings["rate"]) for part in along)
    if len(along) < 5 and leader.settings["rate"] in (known[0], known[-1]):
        factor = STEP if leader.settings["rate"] == known[-1] else 1.0 / STEP
        return {**first, "rate": float(f"{float(leader.settings['rate']) * factor:.3g}")}
    for name, values in others.items():
        for value in values:
            settings = {**best(along, task).settings, name: value}
            if not any(part.settings == settings for part in tried):
                return settings
    return None


def best(tried: list[Try], task: Task) -> Try:
    """The try with the best metric."""
    sign = 1.0 if task.higher_is_better else -1.0
    return max(tried, key=lambda part: -math.inf if math.isnan(part.value) else sign * part.value)


def _name(task: Task, method: str, cell: Cell) -> str:
    return f"{task.name} {cell.density:g} {cell.epochs}e {method}"
