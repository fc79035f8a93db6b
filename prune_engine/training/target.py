"""The smallest density that loses no more than was asked, found on rows that nothing else is done with.

One run falls through a ladder of densities with a short fine-tuning at each, until one loses too much; then
the interval between it and the one before is halved on the log axis. A whole training at the smallest density
that was within gives the model; where it is not within, the next denser is trained. The rows of the search
are in none of these trainings, and the rows that the report measures on have no part in it.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from prune_engine.data.part import RowsPart
from prune_engine.errors import SpecError
from prune_engine.events import Listener, ProgressEvent, StageEvent, WarningEvent
from prune_engine.goals import Target
from prune_engine.report import TargetInfo, TriedDensity
from prune_engine.spec import PruneSpec
from prune_engine.training.clock import Clock
from prune_engine.training.curve import Stop
from prune_engine.training.descent import Descent, Place
from prune_engine.training.result import Trainable, Trained
from prune_engine.training.settings import Settings
from prune_engine.training.subject import Subject
from prune_engine.training.trainer import train
from prune_engine.training.validation import HoldoutSample

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

WHOLE = 3
"""Whole trainings at most, each denser than the one before."""

DENSER = 1.6
"""From a whole training that lost too much to the next, where the search has no density between."""

DENSEST = 0.9
"""Above it there is hardly anything to gain: the last density that is tried."""

SEARCH_SHARE = 0.6
"""Of `max_minutes`, what the search may take."""

ROWS_SHARE, MOST_ROWS = 0.2, 5_000
"""Of the training rows, those that are held back for the search."""


USUAL = 0.1
"""Density of the answer, as far as memory and time have to be said before."""


def expected_steps(single: int) -> int:
    """Steps of a search and of the training at its end, where a single training has `single`."""
    return round((EXPECTED * (FALL + FORK) + 1.0) * single)


@dataclass(frozen=True)
class Limit:
    """What is within the target, by the metric of the task."""

    dense: float
    worst: float
    higher_is_better: bool

    def holds(self, value: float) -> bool:
        """Whether a model that measures `value` loses no more than was asked."""
        slack = 1e-9 * max(abs(self.worst), 1.0)
        return value >= self.worst - slack if self.higher_is_better else value <= self.worst + slack


def limit_of(target: Target, metric: str, higher_is_better: bool, dense: float) -> Limit:
    """The limit that `target` sets for a model whose dense form measures `dense`.

    The relative error of a distilled model is a share already, and 0 for the dense model: it may grow to
    `max_error_increase`.

    Raises:
        SpecError: the target is one for another kind of task.
    """
    if higher_is_better:
        if target.max_accuracy_drop is None:
            raise SpecError(
                f"target: max_error_increase is for errors, and this model is measured by its {metric}; "
                "give max_accuracy_drop, a fraction",
                param="target",
            )
        return Limit(dense, dense - 100.0 * target.max_accuracy_drop, True)
    if target.max_error_increase is None:
        raise SpecError(
            f"target: max_accuracy_drop is for classes, and this model is measured by an error ({metric}); "
            "give max_error_increase, relative to the dense model's error",
            param="target",
        )
    if metric == "relative_error":
        return Limit(dense, dense + target.max_error_increase, False)
    return Limit(dense, dense * (1.0 + target.max_error_increase), False)


def hold_back(prepared: Prepared, seed: int) -> tuple[Prepared, Prepared]:
    """Rows to train on, and (as `holdout`) to search with: `prepared.search`, else some training rows."""
    if prepared.search is not None:
        return prepared, replace(prepared, holdout=prepared.search)
    count = len(prepared.train)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    rows = min(max(round(ROWS_SHARE * count), 1), MOST_ROWS, count - 1)
    searched = RowsPart(prepared.train, order[:rows])
    rest = RowsPart(prepared.train, order[rows:].sort().values)
    return replace(prepared, train=rest), replace(prepared, train=rest, holdout=searched)


def train_to_target(
    module: Trainable,
    prepared: Prepared,
    spec: PruneSpec,
    device: torch.device,
    emit: Listener,
    start: Mapping[str, np.ndarray] | None = None,
) -> Trained:
    """Prune to the smallest density that is within `spec.target`; where none is, to what comes nearest.

    Arguments and errors are those of `train`.
    """
    assert spec.target is not None  # noqa: S101 - whoever calls has looked
    if len(prepared.train) < 2 and prepared.search is None:
        raise SpecError(
            "target: the search holds rows back, and there is only one to train on", param="target"
        )
    begun = time.monotonic()
    rest, searching = hold_back(prepared, spec.seed)
    judge = _Judge(module, searching, device, spec.target)
    warnings = [] if prepared.search is not None else _learned_by_heart(module, prepared, judge, device)
    for warning in warnings:
        emit(WarningEvent(message=warning))
    search_spec = spec
    if spec.max_minutes is not None:
        search_spec = spec.model_copy(update={"max_minutes": SEARCH_SHARE * spec.max_minutes})
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        search = _Search(
            copy.deepcopy(module), rest, search_spec, device, _scaled(emit, 0.0, SEARCH_SHARE), start
        )
        search.run(judge)
    tried = list(search.tried)
    searched_for = time.monotonic() - begun
    outcomes: list[tuple[bool, float, Trained]] = []
    density = search.answer
    for attempt in range(WHOLE):
        asked = spec.at(density)
        if spec.max_minutes is not None:
            left = spec.max_minutes - (time.monotonic() - begun) / 60.0
            if left <= 0.0 and outcomes:
                break
            asked = asked.model_copy(update={"max_minutes": max(left, 0.01 * spec.max_minutes)})
        emit(StageEvent(stage="pruning", message=f"a whole training at density {density:g}"))
        part = _scaled(emit, SEARCH_SHARE if attempt == 0 else 0.95, 1.0)
        own = copy.deepcopy(module)
        result = train(own, rest, asked, device, part, start)
        value = judge.value(own)
        within = judge.limit.holds(value)
        tried.append(
            TriedDensity(
                density=density,
                value=value,
                within=within,
                steps=int(result.settings["steps_done"]),
                whole=True,
            )
        )
        outcomes.append((within, value, Trained(spec.at(density), own, result)))
        if within or density >= DENSEST:
            break
        density = _denser(density, tried)
    return _best(outcomes, tried, judge, spec, searched_for, emit, warnings)


def _best(
    outcomes: list[tuple[bool, float, Trained]],
    tried: list[TriedDensity],
    judge: _Judge,
    spec: PruneSpec,
    searched_for: float,
    emit: Listener,
    before: list[str],
) -> Trained:
    """The one that is within, else the one that comes nearest; with how it was found."""
    sign = 1.0 if judge.limit.higher_is_better else -1.0
    within, value, chosen = max(outcomes, key=lambda one: (one[0], sign * one[1]))
    assert spec.target is not None  # noqa: S101 - whoever calls has looked
    density = chosen.spec.one_density
    target = TargetInfo(
        asked=spec.target,
        met=within,
        density=density,
        rows=judge.rows,
        dense=judge.limit.dense,
        limit=judge.limit.worst,
        value=value,
        tried=tried,
    )
    warnings = [*before, *chosen.result.warnings]
    if not within:
        warnings.append(
            f"target: not met. The best that was found, density {density:g}, measures {value:.5g} on the "
            f"{judge.rows} rows of the search, where {judge.limit.worst:.5g} was asked for and the dense "
            f"model has {judge.limit.dense:.5g}. Allow a larger loss, or more effort."
        )
        emit(WarningEvent(message=warnings[-1]))
    durations = dict(chosen.result.durations)
    durations["pruning"] = durations.get("pruning", 0.0) + searched_for
    result = replace(chosen.result, warnings=warnings, durations=durations)
    return replace(chosen, result=result, target=target)


def _learned_by_heart(
    module: Trainable, prepared: Prepared, judge: _Judge, device: torch.device
) -> list[str]:
    """A warning where the dense model knows the rows of the search much better than the held-out ones."""
    held_out = replace(prepared, holdout=prepared.holdout.to(device))
    there, here = HoldoutSample(module, held_out).measure(module), judge.limit.dense
    allowed = abs(judge.limit.worst - here)
    better = here - there if judge.limit.higher_is_better else there - here
    if better <= allowed or better <= 1e-9:
        return []
    return [
        f"target: the dense model measures {here:.5g} on the training rows of the search and {there:.5g} on "
        "held-out rows, so it knows the former by heart. What it forgets of them in pruning counts as lost, "
        'and the density that is found is larger than it need be. With "rows": "held_out" in target half '
        "of the held-out rows are searched on instead."
    ]


def _denser(density: float, tried: list[TriedDensity]) -> float:
    """The next density that the search found to be within, or a step up."""
    above = sorted(
        one.density for one in tried if one.within and not one.whole and one.density > 1.05 * density
    )
    return min(above[0] if above else DENSER * density, DENSEST)


class _Judge:
    """Measures modules on the rows of the search."""

    def __init__(self, module: Trainable, searching: Prepared, device: torch.device, target: Target) -> None:
        self.rows = len(searching.holdout)
        if isinstance(module, torch.nn.Module):
            module.to(device)
        searching = replace(searching, holdout=searching.holdout.to(device))
        self._sample = HoldoutSample(module, searching, most=self.rows)
        metric = searching.metric
        dense = self._sample.measure(module)
        self.limit = limit_of(target, metric.name, metric.higher_is_better, dense)

    def value(self, module: Trainable) -> float:
        """The metric of a module."""
        return self._sample.measure(module)


class _Search:
    """One run down the ladder, and the halvings at its end."""

    def __init__(
        self,
        module: Trainable,
        prepared: Prepared,
        spec: PruneSpec,
        device: torch.device,
        emit: Listener,
        start: Mapping[str, np.ndarray] | None,
    ) -> None:
        self._spec = spec
        self._emit = emit
        self._subject = Subject(module, prepared, spec, device, start)
        self.smallest = min(_rounded(self._subject.layout.smallest_density, math.ceil), DENSEST)
        self.tried: list[TriedDensity] = []
        first = self._settings(max(1.0 / STEP, self.smallest))
        self._steps = first.total_steps
        each = round((FALL + FORK) * self._steps)
        self._clock = Clock(max(EXPECTED * each, 1), spec.max_minutes)
        self._descent = Descent(self._subject, first, self._clock, emit) if self._steps else None

    @property
    def answer(self) -> float:
        """The smallest density that was within, or the densest that is tried."""
        return min((one.density for one in self.tried if one.within), default=DENSEST)

    def run(self, judge: _Judge) -> None:
        """Look until the answer is known closely enough, or time is up."""
        if self._descent is None:
            return
        passing, density = self._descent.keep(), 1.0
        failing: float | None = None
        while density > self.smallest and not self._over():
            density = max(_rounded(density / STEP), self.smallest)
            place = self._try(density, judge)
            if place is None:
                failing = density
                break
            passing = place
        if failing is None:
            return
        for _ in range(HALVINGS):
            if self._over():
                return
            middle = _rounded(math.sqrt(passing.density * failing))
            self._descent.back(passing)
            place = self._try(middle, judge)
            if place is None:
                failing = middle
            else:
                passing = place

    def _over(self) -> bool:
        return self._spec.max_minutes is not None and self._clock.overall >= 1.0

    def _try(self, density: float, judge: _Judge) -> Place | None:
        """Fall to `density` and fine-tune a fork; where it is within, the place to go on from."""
        descent = self._descent
        assert descent is not None  # noqa: S101 - whoever calls has looked
        settings = self._settings(density)
        factor = math.log(descent.density / density) / math.log(STEP)
        begin = self._clock.step
        descent.fall(
            settings,
            max(round(FALL * self._steps * factor), 1),
            Stop(len(self.tried) + 1, None, density),
        )
        place = descent.keep()
        module, _ = descent.fork(settings, max(round(FORK * self._steps), 1))
        value = judge.value(module)
        within = judge.limit.holds(value)
        self.tried.append(
            TriedDensity(
                density=density, value=value, within=within, steps=self._clock.step - begin, whole=False
            )
        )
        said = "within the target" if within else "not within the target"
        self._emit(StageEvent(stage="pruning", message=f"density {density:g}: {value:.5g}, {said}"))
        return place if within else None

    def _settings(self, density: float) -> Settings:
        return self._subject.settings(self._spec.at(density))


def _rounded(density: float, towards: Callable[[float], int] = round) -> float:
    """To three digits: a density that one can say."""
    scale = 10.0 ** (2 - math.floor(math.log10(density)))
    return float(f"{towards(density * scale * (1.0 - 1e-12)) / scale:.3g}")


def _scaled(emit: Listener, start: float, end: float) -> Listener:
    """Let the progress of a part of the work be the progress from `start` to `end` of all of it."""

    def pass_on(event: StageEvent | ProgressEvent | WarningEvent) -> None:
        if isinstance(event, ProgressEvent):
            done = start + (end - start) * event.progress.fraction
            event = event.model_copy(
                update={"progress": event.progress.model_copy(update={"fraction": done})}
            )
        emit(event)

    return pass_on
