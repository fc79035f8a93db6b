"""`python -m benchmarks.accuracy`: run what is not stored yet, then draw the table and the picture."""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.accuracy import fingerprint
from benchmarks.accuracy.choosing import Choices, choose
from benchmarks.accuracy.confirming import confirm
from benchmarks.accuracy.dense import DenseNet, dense_net
from benchmarks.accuracy.figure import write_figure
from benchmarks.accuracy.peers import PEERS, missing
from benchmarks.accuracy.plan import METHODS, Due, Selection, due, status, together
from benchmarks.accuracy.rows import CACHE, Rows, load_rows
from benchmarks.accuracy.run import Run, device_here, note, run_ours, run_peer
from benchmarks.accuracy.store import Store, write_whole
from benchmarks.accuracy.table import table
from benchmarks.accuracy.tasks import FULL, QUICK, SEEDS, TASKS, Task
from benchmarks.machine import RESULTS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, collect, draw."""
    asked = _parser().parse_args(arguments)
    torch.set_num_threads(asked.threads)
    tasks = tuple(asked.task) if asked.task else QUICK if asked.quick else FULL
    densities = tuple(round(percent / 100, 10) for percent in asked.density) if asked.density else None
    selection = Selection(tasks, tuple(asked.method or METHODS), densities, tuple(asked.seed or SEEDS))
    quick = asked.quick or set(tasks) <= set(QUICK)
    folder = CACHE / "accuracy" / "quick" if quick else RESULTS
    store = Store(collected=folder / "accuracy.json")
    choices = Choices()
    for method in selection.methods:
        if method in PEERS and (why := missing(method)):
            print(f"{method} is left out: {why}", flush=True)
    if asked.status:
        print("\n".join(status(due(selection, store.runs(), choices), store.runs().values())))
        return 0
    if asked.confirm:
        take_over(selection, store)
    elif not asked.table:
        until = time.monotonic() + 60 * asked.limit_minutes
        work(selection, store, choices, until)
    draw(store, choices, folder, QUICK if quick else FULL)
    return 0


def work(selection: Selection, store: Store, choices: Choices, until: float = float("inf")) -> int:
    """Make every run that is due, storing each at once; returns how many trainings that were."""
    trainings = 0
    for task in (TASKS[name] for name in selection.tasks):
        mine = replace(selection, tasks=(task.name,))
        todo = due(mine, store.runs(), choices)
        if not todo:
            continue
        rows = load_rows(task)
        nets: dict[int, DenseNet] = {}
        for method in dict.fromkeys(
            run.method for run in todo if run.method in PEERS and run.settings is None
        ):
            for cell, tried in choose(task, method, rows, choices):
                trainings += 1
                _say(f"{task.name} {cell.label}: {method} tries {tried.settings}: {tried.value:.2f} held out")
                if time.monotonic() > until:
                    return trainings
        while time.monotonic() < until:
            todo = due(mine, store.runs(), choices)
            if not todo:
                break
            first = todo[0]
            if first.seed not in nets:
                nets = {first.seed: dense_net(task, rows, first.seed)}
            _make(together(first, todo), rows, nets[first.seed], store)
            trainings += 1
            if time.monotonic() < until:
                _say("; ".join(status(todo[1:], store.runs().values())))
    return trainings


def _make(runs: list[Due], rows: Rows, dense: DenseNet, store: Store) -> None:
    """One training, and the runs that it stands for."""
    first = runs[0]
    task = first.task
    epochs = first.cell.length(device_here().type)
    if first.method in PEERS:
        settings = dict(first.settings or {})
        densities = [run.cell.density for run in runs]
        outcomes = run_peer(first.method, task, rows, dense, densities, epochs, first.seed, settings)
    else:
        outcome, settings = run_ours(first.method, task, rows, dense, first.cell.density, epochs, first.seed)
        outcomes = [outcome]
    for run, outcome in zip(runs, outcomes, strict=True):
        versions = fingerprint.versions(run.method)
        noted = note(
            task, run.cell, run.method, run.seed, run.fingerprint, outcome, dense, settings, versions
        )
        store.add(noted)
        cut = (
            ""
            if noted.kept == noted.reached_kept
            else f" (left {noted.reached_kept} at {noted.reached_value:.2f})"
        )
        _say(
            f"{task.name} {run.cell.label}, seed {run.seed}: {run.method} {noted.value:.2f} "
            f"with {noted.kept} weights{cut}, {noted.cpu_seconds:.0f} s"
        )


def take_over(selection: Selection, store: Store) -> None:
    """Take over what earlier code has measured, where today's trains the same."""

    @functools.lru_cache(maxsize=1)
    def rows(name: str) -> Rows:
        return load_rows(TASKS[name])

    @functools.lru_cache(maxsize=len(SEEDS))
    def dense(name: str, seed: int) -> DenseNet:
        return dense_net(TASKS[name], rows(name), seed)

    def dense_value(name: str, seed: int) -> float:
        return round(dense(name, seed).value, 4)

    def again(run: Run) -> float:
        net, task = dense(run.task, run.seed), TASKS[run.task]
        outcome, _ = run_ours(run.method, task, rows(run.task), net, run.density, run.epochs, run.seed)
        return round(outcome.value, 4)

    for found in confirm(store.runs().values(), selection.tasks, again, dense_value):
        for run in found.confirmed:
            store.add(run)
        run = found.tried
        said = f"{len(found.confirmed)} runs stand" if found.confirmed else "it has changed: run it again"
        cell = f"{run.task} {100 * run.density:g} %, {run.epochs} epochs, seed {run.seed}"
        _say(f"{cell}: {run.method} had {run.value}, now {found.value}: {said}")


def draw(store: Store, choices: Choices, folder: Path, names: Sequence[str]) -> None:
    """Collect the stored runs of these tasks, write the table and the picture.

    A peer's runs with other settings than those that its search has chosen since are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    runs = [run for run in store.runs().values() if run.task in names and _chosen(run, choices)]
    store.collect(runs)
    tasks: list[Task] = [TASKS[name] for name in names]
    text = table(tasks, runs)
    write_whole(folder / "accuracy.md", text)
    if runs:
        write_figure(tasks, runs, folder)
    print(text)


def _chosen(run: Run, choices: Choices) -> bool:
    if run.method not in PEERS:
        return True
    return choices.settings(TASKS[run.task], run.method, run.density) in (None, run.settings)


def _say(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description="Accuracy at each density, every method from the same dense nets. Runs that are stored "
        "are not made again, so it can be stopped at any time, and several processes can share the work.",
    )
    parser.add_argument("--quick", action="store_true", help="scikit-learn's digits only: about two minutes")
    parser.add_argument("--task", action="append", choices=TASKS)
    parser.add_argument("--method", action="append", choices=METHODS)
    parser.add_argument("--density", action="append", type=float, metavar="PERCENT")
    parser.add_argument("--seed", action="append", type=int, choices=SEEDS)
    parser.add_argument("--limit-minutes", type=float, default=float("inf"), help="begin nothing after that")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--status", action="store_true", help="say what is left, run nothing")
    parser.add_argument(
        "--confirm",
        action="store_true",
        help="make a run of each cell of earlier code again; where the figure is the same, keep all of them",
    )
    parser.add_argument("--table", action="store_true", help="collect and draw what is stored, run nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
