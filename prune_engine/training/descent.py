"""One training run whose gates fall from density to density; at each a fork of it is followed to its end."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from prune_engine.events import Listener, StageEvent
from prune_engine.state import State
from prune_engine.training.clock import Clock
from prune_engine.training.curve import Stop
from prune_engine.training.result import Trainable, TrainingResult
from prune_engine.training.run import Run
from prune_engine.training.settings import Settings
from prune_engine.training.snapshot import restore, take
from prune_engine.training.subject import Subject
from prune_engine.training.trainer import follow_to_the_end

AGAIN_FROM = 0.6
"""Of where a fall ends in the schedules, where a further one begins: the learning rate is near its peak."""


@dataclass(frozen=True)
class Place:
    """Where a descent has been: open gates at a density."""

    density: float
    state: State


class Descent:
    """A run with open gates that can be let fall, forked, and put back.

    Args:
        subject: what is trained on what.
        settings: those of the densest stop; the fork of a stop is as long as what a single training of these
            settings has left when its density is reached.
        clock: counts the steps of falls and forks.
        emit: who is told.
    """

    def __init__(self, subject: Subject, settings: Settings, clock: Clock, emit: Listener) -> None:
        self._emit = emit
        self.run = Run(subject, settings, clock, emit)
        self.density = 1.0

    def fall(self, settings: Settings, steps: int, stop: Stop) -> None:
        """Let the gates fall to the density of `settings` in so many steps."""
        gates = settings.gates
        begin = 0.0 if self.run.clock.step == 0 else AGAIN_FROM * gates.anneal_until
        gates = replace(gates, start_density=self.density, anneal_from=begin)
        self._say(settings, stop)
        self.run.follow(replace(settings, gates=gates))
        self.run.clock.leg(steps, begin, gates.anneal_until)
        if steps:
            self.run.advance(gates.anneal_until)
        self.run.clock.close()
        self.density = gates.density

    def fork(self, settings: Settings, steps: int) -> tuple[Trainable, TrainingResult]:
        """Follow the run to its end from here, and come back; the module that came of it, and its figures."""
        before = self.keep()
        self.run.clock.leg(steps, settings.gates.anneal_until, 1.0)
        result = follow_to_the_end(self.run, time.monotonic(), self._emit)
        self.run.clock.close()
        module = self.run.subject.finished()
        self.back(before)
        return module, result

    def keep(self) -> Place:
        """A place to come back to; all of it is copied into main memory."""
        return Place(self.density, take(self.run))

    def back(self, place: Place) -> None:
        """Go on from there; steps that were done since are still counted."""
        restore(self.run, place.state, rewind=False)
        self.density = place.density

    def _say(self, settings: Settings, stop: Stop) -> None:
        self.run.curve.stop = stop
        number = f"{stop.stop} of {stop.stops}" if stop.stops else f"{stop.stop}"
        kept = settings.gates.kept
        self._emit(
            StageEvent(
                stage="pruning",
                message=f"density {number}: {settings.gates.density:g}, {kept} weights; "
                f"the gates come from {self.density:.4g}",
            )
        )
