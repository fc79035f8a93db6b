"""The search for a density: one run down a ladder of densities, and the halvings at its end.

What comes next follows from what was tried, so a search goes on from a checkpoint with no more than that, the
place of the last density that was within, and the descent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from prune_engine.checkpoints.keeper import NOTHING_KEPT, Keeper, Level, fitting
from prune_engine.events import Listener, StageEvent
from prune_engine.report import TriedDensity
from prune_engine.spec import PruneSpec
from prune_engine.training.clock import Clock
from prune_engine.training.curve import Stop
from prune_engine.training.descent import Descent, Place
from prune_engine.training.result import Trainable
from prune_engine.training.settings import Settings
from prune_engine.training.subject import Subject

if TYPE_CHECKING:
    from prune_engine.data import Prepared

STEP = 2.5
"""From a density of the ladder to the next."""

HALVINGS = 3
"""Of the interval between two densities of the ladder: the answer is then known to 12 %."""

FORK = 0.25
"""Of a whole training, what a density of the search is fine-tuned for."""

FALL = 0.12
"""Of a whole training, what the gates fall for by one step of the ladder; a single training takes as long."""

EXPECTED = 8
"""Densities that the search is taken to need, for its share of the progress and of the time."""

DENSEST = 0.9
"""Above it there is hardly anything to gain: the last density that is tried."""

Judge = Callable[[Trainable], tuple[float, bool]]
"""Measures a module; whether that is within the target."""


def answer(tried: Sequence[TriedDensity]) -> float:
    """The smallest density of a search that was within, or the densest that is tried."""
    return min((one.density for one in tried if one.within and not one.whole), default=DENSEST)


class Search:
    """One search on the way.

    Args:
        module: its weights are used up.
        prepared, spec, device, emit, start: as for `train`.
        keeper: gets a checkpoint of it now and then, and may have one to go on from.

    Attributes:
        tried: what was tried, in order.
        cut: whether time was up before the answer was known closely.
    """

    def __init__(
        self,
        module: Trainable,
        prepared: Prepared,
        spec: PruneSpec,
        device: torch.device,
        emit: Listener,
        start: Mapping[str, np.ndarray] | None,
        keeper: Keeper = NOTHING_KEPT,
    ) -> None:
        self._spec = spec
        self._emit = emit
        self._keeper = keeper
        self._subject = Subject(module, prepared, spec, device, start)
        self.smallest = min(_rounded(self._subject.layout.smallest_density, math.ceil), DENSEST)
        self.tried: list[TriedDensity] = []
        self.cut = False
        first = self._settings(max(1.0 / STEP, self.smallest))
        self._steps = first.total_steps
        each = round((FALL + FORK) * self._steps)
        self._clock = Clock(max(EXPECTED * each, 1), spec.max_minutes)
        self._begin: int | None = None
        self._passing: Place | None = None
        if self._steps:
            self._descent = Descent(self._subject, first, self._clock, emit, keeper)
            self._go_on()

    def run(self, judge: Judge) -> None:
        """Look until the answer is known closely enough, or time is up."""
        if not self._steps:
            return
        if self._passing is None:
            self._passing = self._descent.keep()
        with self._keeper.keeping("search", self._level):
            while (density := self._next(self._passing.density)) is not None:
                if self._begin is None:
                    if self._over():
                        self.cut = True
                        break
                    if self._failing is not None:
                        self._descent.back(self._passing)
                    self._begin = self._clock.step
                place = self._try(density, judge, self._begin)
                self._passing, self._begin = place or self._passing, None

    @property
    def _failing(self) -> float | None:
        """The density that was not within, last."""
        return next((one.density for one in reversed(self.tried) if not one.within), None)

    def _next(self, passing: float) -> float | None:
        """The density to try after what was tried; None: the answer is known."""
        if self._failing is None:
            last = self.tried[-1].density if self.tried else 1.0
            return max(_rounded(last / STEP), self.smallest) if last > self.smallest else None
        first = next(number for number, one in enumerate(self.tried) if not one.within)
        if len(self.tried) - 1 - first == HALVINGS:
            return None
        return _rounded(math.sqrt(passing * self._failing))

    def _over(self) -> bool:
        return self._spec.max_minutes is not None and self._clock.overall >= 1.0

    def _try(self, density: float, judge: Judge, begin: int) -> Place | None:
        """Fall to `density` and fine-tune a fork; where it is within, the place to go on from."""
        descent, settings = self._descent, self._settings(density)
        factor = math.log(descent.density / density) / math.log(STEP)
        descent.fall(
            settings,
            max(round(FALL * self._steps * factor), 1),
            Stop(len(self.tried) + 1, None, density),
        )
        module, _ = descent.fork(settings, max(round(FORK * self._steps), 1))
        value, within = judge(module)
        self.tried.append(
            TriedDensity(
                density=density, value=value, within=within, steps=self._clock.step - begin, whole=False
            )
        )
        said = "within the target" if within else "not within the target"
        self._emit(StageEvent(stage="pruning", message=f"density {density:g}: {value:.5g}, {said}"))
        return descent.forked if within else None

    def _settings(self, density: float) -> Settings:
        return self._subject.settings(self._spec.at(density))

    def _level(self) -> Level:
        """What was tried and the place to go back to, for a checkpoint."""
        assert self._passing is not None  # noqa: S101 - `run` sees to it
        notes = {
            "tried": [one.model_dump() for one in self.tried],
            "begin": self._begin,
            "density": self._passing.density,
        }
        return Level(notes, parts={"passing": self._passing.part})

    def _go_on(self) -> None:
        found = self._keeper.found("search")
        if found is None:
            return
        with fitting():
            self.tried = [TriedDensity.model_validate(one) for one in found.notes["tried"]]
            self._begin = int(found.notes["begin"])
            self._passing = Place(float(found.notes["density"]), found.parts["passing"])
        for one in self.tried:
            self._descent.passed(self._settings(one.density))


def _rounded(density: float, towards: Callable[[float], int] = round) -> float:
    """To three digits: a density that one can say."""
    scale = 10.0 ** (2 - math.floor(math.log10(density)))
    return float(f"{towards(density * scale * (1.0 - 1e-12)) / scale:.3g}")
