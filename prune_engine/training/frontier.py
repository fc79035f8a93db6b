"""Several densities from one training run: gates fall through all of them, and at each a fork is fine-tuned.

The fork of a stop is as long as what a single training has left when its gates have reached the density;
the falls together are as long as the one fall of a single training to the sparsest stop. So n stops take
(n + 1) / 2 times as long as one, where the gates take half of a training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from prune_engine.checkpoints.keeper import NOTHING_KEPT, Keeper, Level, Notes, Part, fitting
from prune_engine.events import Listener
from prune_engine.spec import PruneSpec
from prune_engine.training.clock import Clock
from prune_engine.training.curve import Stop
from prune_engine.training.descent import Descent
from prune_engine.training.keeping import part_of, trained_of
from prune_engine.training.result import Trainable, Trained
from prune_engine.training.settings import Settings
from prune_engine.training.subject import Subject
from prune_engine.training.trainer import cut_short, untrained

if TYPE_CHECKING:
    from prune_engine.data import Prepared


@dataclass(frozen=True)
class Leg:
    """The way to a stop, in steps: down to its density, and from there to the end of its fork."""

    fall: int
    fork: int


def legs(stops: Sequence[Settings]) -> list[Leg]:
    """Steps for each stop; `stops` are settings of single trainings, densest first."""
    longest = max(-math.log(stops[-1].gates.density), 1e-9)
    found, before = [], 1.0
    for stop in stops:
        share = math.log(before / stop.gates.density) / longest
        until, steps = stop.gates.anneal_until, stop.total_steps
        fall = max(round(until * steps * share), 1) if steps and share > 0.0 else 0
        found.append(Leg(fall, max(round((1.0 - until) * steps), 1) if steps else 0))
        before = stop.gates.density
    return found


def total_steps(stops: Sequence[Settings]) -> int:
    """Training steps of all stops together."""
    return sum(leg.fall + leg.fork for leg in legs(stops))


def train_frontier(
    module: Trainable,
    prepared: Prepared,
    spec: PruneSpec,
    device: torch.device,
    emit: Listener,
    start: Mapping[str, np.ndarray] | None = None,
    keeper: Keeper = NOTHING_KEPT,
) -> Iterator[Trained]:
    """One result after another for the densities of `spec.frontier`, densest first.

    Each has a module of its own with the final weights; what comes later does not change it. Arguments and
    errors are those of `train`; that a density cannot be met is found before anything is trained.
    """
    densities = spec.frontier or ()
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        subject = Subject(module, prepared, spec, device, start)
        stops = []
        for density in densities:
            stop = subject.settings(spec.at(density))
            if stop.total_steps:
                stops.append(stop)
            else:
                yield _as_it_came(subject, spec, stop, emit)
        if stops:
            yield from _descend(subject, spec, stops, len(densities), emit, keeper)


def _as_it_came(subject: Subject, spec: PruneSpec, stop: Settings, emit: Listener) -> Trained:
    """A density for which nothing is trained: 1, or one whose mask follows from the weights alone."""
    result = untrained(subject, stop, emit)
    module = subject.finished()
    subject.flat.shown.copy_(subject.flat.values)
    return Trained(spec.at(stop.gates.density), module, result)


def _descend(
    subject: Subject,
    spec: PruneSpec,
    stops: Sequence[Settings],
    count: int,
    emit: Listener,
    keeper: Keeper,
) -> Iterator[Trained]:
    clock = Clock(total_steps(stops), spec.max_minutes)
    # One learning rate is looked for that the dense network stands; the densest stop has the largest teacher.
    fastest = max(stop.learning_rate for stop in stops)
    found = keeper.found("frontier")
    descent = Descent(subject, replace(stops[0], learning_rate=fastest), clock, emit, keeper)
    done: list[tuple[Notes, Part]] = []
    if found is not None:
        with fitting():
            done = [(notes, found.parts[str(i)]) for i, notes in enumerate(found.notes["stops"])]
    for stop, (notes, part) in zip(stops, done, strict=False):
        descent.passed(stop)
        yield trained_of(notes, part, spec, subject.finished())
    first = count - len(stops) + 1
    with keeper.keeping("frontier", lambda: _level(done)):
        for number, (stop, leg) in enumerate(zip(stops, legs(stops), strict=True), first):
            if number < first + len(done):
                continue
            before, came_from = clock.step, descent.density
            descent.fall(stop, leg.fall, Stop(number, count, stop.gates.density))
            module, result = descent.fork(stop, leg.fork)
            seconds = {**result.durations, "pruning": result.durations["pruning"] + descent.fell_for}
            last = number == count
            late = _not_reached(came_from) if clock.step == before else []
            warnings = [*result.warnings, *late, *(cut_short(clock) if last else [])]
            trained = Trained(
                spec.at(stop.gates.density), module, replace(result, durations=seconds, warnings=warnings)
            )
            if keeper.keeps and not last:
                done.append(part_of(trained))
            yield trained


def _not_reached(density: float) -> list[str]:
    """A warning for a stop that no step was left for."""
    return [
        "max_minutes: time was up before this density was reached; its mask comes from gates at density "
        f"{density:.3g}, and nothing was fine-tuned"
    ]


def _level(done: Sequence[tuple[Notes, Part]]) -> Level:
    """The stops that are done, for a checkpoint."""
    return Level(
        {"stops": [notes for notes, _ in done]}, parts={str(i): part for i, (_, part) in enumerate(done)}
    )
