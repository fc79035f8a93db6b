"""One training run whose gates fall from density to density; at each a fork of it is followed to its end."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import partial

from prune_engine.checkpoints.keeper import (
    NOTHING_KEPT,
    Keeper,
    Level,
    Part,
    UnfitCheckpointError,
    fitting,
)
from prune_engine.events import Listener, StageEvent
from prune_engine.training.clock import Clock
from prune_engine.training.curve import Stop
from prune_engine.training.keeping import go_on, level_of
from prune_engine.training.result import Trainable, TrainingResult
from prune_engine.training.run import Ending, Run
from prune_engine.training.settings import Settings
from prune_engine.training.snapshot import restore, take
from prune_engine.training.subject import Subject
from prune_engine.training.trainer import follow_to_the_end, goes_on

FORK = "fork"
"""The part of a checkpoint that has the place a fork began at; without it a fall was under way."""

AGAIN_FROM = 0.6
"""Of where a fall ends in the schedules, where a further one begins: the learning rate is near its peak."""


@dataclass(frozen=True)
class Place:
    """Where a descent has been: open gates at a density."""

    density: float
    part: Part


@dataclass(frozen=True)
class _Fall:
    """A fall: the density that it came from, and where in the schedules it began."""

    came_from: float
    begin: float


class Descent:
    """A run with open gates that can be let fall, forked, and put back.

    Args:
        subject: what is trained on what.
        settings: those of the densest stop; the fork of a stop is as long as what a single training of these
            settings has left when its density is reached.
        clock: counts the steps of falls and forks.
        emit: who is told.
        keeper: gets a checkpoint of it now and then, and may have one to go on from. Then the falls that are
            over are `passed`, and the first fall and fork after them begin where the checkpoint is.

    Attributes:
        run: what falls.
        density: where it is.
        forked: the place that the last fork began at.
        fell_for: seconds that the last fall took.
    """

    def __init__(
        self,
        subject: Subject,
        settings: Settings,
        clock: Clock,
        emit: Listener,
        keeper: Keeper = NOTHING_KEPT,
    ) -> None:
        self._emit = emit
        self._keeper = keeper
        self.run = Run(subject, settings, clock, emit, keeper)
        self.density = 1.0
        self.forked: Place | None = None
        self.fell_for = 0.0
        self._fall = _Fall(1.0, 0.0)
        self._found = keeper.found("descent")
        if self._found is not None:
            with fitting():
                self._fall = _Fall(**self._found.notes["fall"])
                self.fell_for = self._found.notes["fell_for"]
            self.density = self._fall.came_from

    def fall(self, settings: Settings, steps: int, stop: Stop) -> None:
        """Let the gates fall to the density of `settings` in so many steps."""
        gates, begun = settings.gates, time.monotonic() - self.fell_for
        if self._found is None:
            begun = time.monotonic()
            begin = 0.0 if self.run.clock.step == 0 else AGAIN_FROM * gates.anneal_until
            self._fall = _Fall(self.density, begin)
        gates = replace(gates, start_density=self.density, anneal_from=self._fall.begin)
        self._say(settings, stop)
        self.run.follow(replace(settings, gates=gates))
        if self._found is None or FORK not in self._found.parts:
            if not self._goes_on():
                self.run.clock.leg(steps, self._fall.begin, gates.anneal_until)
                self.run.ending = Ending(begun)
            with self._kept(begun), self._keeper.training(partial(level_of, self.run)):
                if steps:
                    self.run.advance(gates.anneal_until)
            self.run.clock.close()
            self.fell_for = time.monotonic() - begun
        self.density = gates.density

    def fork(self, settings: Settings, steps: int) -> tuple[Trainable, TrainingResult]:
        """Follow the run to its end from here, and come back; the module that came of it, and its figures."""
        run, found = self.run, self._found
        if self._goes_on() and found is not None:
            before = Place(self.density, found.parts[FORK])
        else:
            before = self.keep()
            run.clock.leg(steps, settings.gates.anneal_until, 1.0)
            run.ending = Ending(time.monotonic())
        self.forked = before
        with self._kept(None, before), self._keeper.training(partial(level_of, run)):
            result = follow_to_the_end(run, self._emit)
        run.clock.close()
        module = run.subject.finished()
        self.back(before)
        return module, result

    def passed(self, settings: Settings) -> None:
        """A fall to the density of `settings` was done in an earlier attempt; its noise has left traces."""
        self.run.follow(settings)

    def keep(self) -> Place:
        """A place to come back to; all of it is copied into main memory."""
        return Place(self.density, Part(take(self.run)))

    def back(self, place: Place) -> None:
        """Go on from there; steps that were done since are still counted."""
        restore(self.run, place.part.state, rewind=False)
        self.density = place.density

    def _goes_on(self) -> bool:
        """Bring the run to where the checkpoint has it, where there is one to go on from."""
        if self._found is None:
            return False
        self._found = None
        if not go_on(self.run, self._keeper):
            raise UnfitCheckpointError("there is a descent and no run")
        self._emit(StageEvent(stage=self.run.phase.stage, message=goes_on(self.run)))
        return True

    def _kept(self, begun: float | None, before: Place | None = None) -> AbstractContextManager[None]:
        """Meanwhile the fall that began at `begun`, or the fork that began at `before`, is in checkpoints."""

        def look() -> Level:
            fell_for = self.fell_for if begun is None else time.monotonic() - begun
            notes = {"fall": asdict(self._fall), "fell_for": fell_for}
            return Level(notes, parts={} if before is None else {FORK: before.part})

        return self._keeper.keeping("descent", look)

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
