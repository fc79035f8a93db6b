"""The stages of a child as spans of a trace; it has no network to send them itself."""

from __future__ import annotations

import time
from collections.abc import Callable

from jobs import tracing
from prune_engine.events import StageEvent


class Stages:
    """Hears of one stage after another."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._now: tuple[str, float] | None = None

    def hear(self, event: object) -> None:
        """A stage begins, and so ends the one before."""
        if isinstance(event, StageEvent):
            self.close()
            self._now = (event.stage, self._clock())

    def close(self) -> None:
        """The last one has ended."""
        if self._now is not None:
            name, began = self._now
            tracing.stage(name, began, self._clock())
            self._now = None
