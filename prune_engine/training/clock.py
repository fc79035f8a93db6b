"""How far a training is: of its steps, or of its time where that runs out first."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from prune_engine.state import State
from prune_engine.training.distributed import agreed


class Clock:
    """Counts steps. A training is one leg over the schedules' whole length, or several over parts of it.

    Args:
        total_steps: of all legs together.
        max_minutes: that all legs together may take, from now on; None: no bound.

    Attributes:
        started: when the time began, on the monotonic clock.
        step: steps done since the training began, in all legs.
        skipped: steps that legs were cut short by, as time ran out.
    """

    def __init__(self, total_steps: int, max_minutes: float | None) -> None:
        self.total_steps = total_steps
        self.step = 0
        self.skipped = 0
        self._limit = math.inf if max_minutes is None else 60.0 * max_minutes
        self.started = time.monotonic()
        self.leg(total_steps)

    def leg(self, steps: int, begin: float = 0.0, end: float = 1.0) -> None:
        """Begin a leg of `steps` steps that takes the schedules from `begin` to `end`.

        Of the time that is left it may take as large a part as of the steps that are left.
        """
        self._first, self._steps, self._begin, self._end = self.step, steps, begin, end
        self._leg_started = time.monotonic()
        left = max(self.total_steps - self.step - self.skipped, steps, 1)
        self._leg_limit = (self._limit - (self._leg_started - self.started)) * self._steps / left

    @property
    def missing(self) -> int:
        """Steps of this leg and of closed ones that were not done."""
        return self.skipped + max(self._first + self._steps - self.step, 0)

    def tick(self) -> None:
        """A step was done."""
        self.step += 1

    def close(self) -> None:
        """The leg is over; steps that it did not come to are not to be waited for."""
        self.skipped = self.missing
        self._steps = self.step - self._first

    @property
    def progress(self) -> float:
        """Place in the schedules, in [0, 1]."""
        done = (self.step - self._first) / max(self._steps, 1)
        if self._leg_limit < math.inf:
            elapsed = agreed(time.monotonic() - self._leg_started)
            done = max(done, min(elapsed / max(self._leg_limit, 1e-9), 1.0))
        return self._begin + (self._end - self._begin) * done

    @property
    def overall(self) -> float:
        """Share of the whole training that is done, in [0, 1]."""
        done = (self.step + self.skipped) / self.total_steps
        if self._limit < math.inf:
            done = max(done, min(agreed(time.monotonic() - self.started) / self._limit, 1.0))
        return min(done, 1.0)

    @property
    def elapsed(self) -> float:
        """Seconds since the time began, earlier attempts included."""
        return time.monotonic() - self.started

    def times(self) -> dict[str, float | None]:
        """How much time went by, as a checkpoint has it."""
        limit = None if self._leg_limit == math.inf else self._leg_limit
        leg = time.monotonic() - self._leg_started
        return {"elapsed": self.elapsed, "leg_elapsed": leg, "leg_limit": limit}

    def go_on(self, times: Mapping[str, float | None]) -> None:
        """Let as much time have gone by as `times()` says."""
        now, limit = time.monotonic(), times["leg_limit"]
        self.started = now - (times["elapsed"] or 0.0)
        self._leg_started = now - (times["leg_elapsed"] or 0.0)
        self._leg_limit = math.inf if limit is None else limit

    def state(self) -> State:
        """The count and the leg; how much time has gone by is not a matter of the training's state."""
        return {
            "step": self.step,
            "skipped": self.skipped,
            "first": self._first,
            "steps": self._steps,
            "begin": self._begin,
            "end": self._end,
        }

    def load(self, state: State) -> None:
        """Go on from `state()`."""
        self.step, self.skipped = int(state["step"]), int(state["skipped"])
        self._first, self._steps = int(state["first"]), int(state["steps"])
        self._begin, self._end = float(state["begin"]), float(state["end"])
