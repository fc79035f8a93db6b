"""Times the stages of a run and tells its listener of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prune_engine.checkpoints.keeper import Level
from prune_engine.checkpoints.stopping import Stop
from prune_engine.events import Listener, Stage, StageEvent, Told, WarningEvent


class Stopwatch:
    """Seconds a stage, announced as they begin; between two the run may stop. Warnings go through it too.

    Args:
        listener: who is told.
        stop: looked at where a stage begins.
    """

    def __init__(self, listener: Listener, stop: Stop | None = None) -> None:
        self._listener = listener
        self._stop = stop or Stop()
        self._begin = time.perf_counter()
        self._seconds: dict[str, float] = {}
        self._warned: set[str] = set()

    @contextmanager
    def stage(self, stage: Stage, message: str) -> Iterator[None]:
        """Announce a stage and time what is done in it.

        Raises:
            StoppedError: the run was asked to stop.
        """
        self._stop.look()
        self._listener(StageEvent(stage=stage, message=message))
        begin = time.perf_counter()
        yield
        self._seconds[stage] = self._seconds.get(stage, 0.0) + time.perf_counter() - begin

    def listen(self, event: Told) -> None:
        """Pass an event on; no warning twice, whatever the number of attempts."""
        if isinstance(event, WarningEvent):
            if event.message in self._warned:
                return
            self._warned.add(event.message)
        self._listener(event)

    def warn(self, message: str) -> None:
        """Tell the user something that the report says too."""
        self.listen(WarningEvent(message=message))

    def level(self) -> Level:
        """The time that went by and what was said, for a checkpoint."""
        total = time.perf_counter() - self._begin
        return Level({"seconds": self._seconds, "total": total, "warned": sorted(self._warned)})

    def go_on(self, level: Level) -> None:
        """An earlier attempt took as long, and said as much, as `level()` of it has."""
        self._begin -= float(level.notes["total"])
        self._warned |= set(level.notes["warned"])
        for stage, seconds in level.notes["seconds"].items():
            self._seconds[stage] = self._seconds.get(stage, 0.0) + float(seconds)

    def durations(self, *trainings: Mapping[str, float]) -> dict[str, float]:
        """Seconds by stage, those that trainings timed themselves included, and `total` until now."""
        seconds = dict(self._seconds)
        for training in trainings:
            for stage, value in training.items():
                seconds[stage] = seconds.get(stage, 0.0) + value
        seconds["total"] = time.perf_counter() - self._begin
        return {stage: round(value, 3) for stage, value in seconds.items()}
