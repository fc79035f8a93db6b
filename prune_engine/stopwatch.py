"""Times the stages of a run and tells its listener of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prune_engine.events import Listener, ProgressEvent, Stage, StageEvent, WarningEvent


class Stopwatch:
    """Seconds a stage, announced as they begin. Warnings go through it too."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._begin = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, stage: Stage, message: str) -> Iterator[None]:
        """Announce a stage and time what is done in it."""
        self._listener(StageEvent(stage=stage, message=message))
        begin = time.perf_counter()
        yield
        self._seconds[stage] = self._seconds.get(stage, 0.0) + time.perf_counter() - begin

    def listen(self, event: StageEvent | ProgressEvent | WarningEvent) -> None:
        """Pass an event on."""
        self._listener(event)

    def warn(self, message: str) -> None:
        """Tell the user something that the report says too."""
        self._listener(WarningEvent(message=message))

    def durations(self, *trainings: Mapping[str, float]) -> dict[str, float]:
        """Seconds by stage, those that trainings timed themselves included, and `total` until now."""
        seconds = dict(self._seconds)
        for training in trainings:
            for stage, value in training.items():
                seconds[stage] = seconds.get(stage, 0.0) + value
        seconds["total"] = time.perf_counter() - self._begin
        return {stage: round(value, 3) for stage, value in seconds.items()}
