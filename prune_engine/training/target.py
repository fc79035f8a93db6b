"""The smallest density that loses no more than was asked, found on rows that nothing else is done with.

One run falls through a ladder of densities with a short fine-tuning at each, until one loses too much; then
the interval between it and the one before is halved on the log axis. A whole training at the smallest density
that was within gives the model; where it is not within, the next denser is trained. The rows of the search
are in none of these trainings, and the rows that the report measures on have no part in it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from prune_engine.checkpoints.keeper import NOTHING_KEPT, Keeper, Level, Notes, Part, fitting
from prune_engine.data.part import RowsPart
from prune_engine.errors import SpecError
from prune_engine.events import Listener, ProgressEvent, StageEvent, Told, WarningEvent
from prune_engine.goals import Target
from prune_engine.report import TargetInfo, TriedDensity
from prune_engine.spec import PruneSpec
from prune_engine.training.keeping import part_of, trained_of
from prune_engine.training.result import Trainable, Trained
from prune_engine.training.search import DENSEST, EXPECTED, FALL, FORK, Search, answer
from prune_engine.training.trainer import train
from prune_engine.training.validation import HoldoutSample

if TYPE_CHECKING:
    from prune_engine.data import Prepared

WHOLE = 3
"""Whole trainings at most, each denser than the one before."""

DENSER = 1.6
"""From a whole training that lost too much to the next, where the search has no density between."""

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
    keeper: Keeper = NOTHING_KEPT,
) -> Trained:
    """Prune to the smallest density that is within `spec.target`; where none is, to what comes nearest.

    Arguments and errors are those of `train`.
    """
    assert spec.target is not None  # noqa: S101 - whoever calls has looked
    if len(prepared.train) < 2 and prepared.search is None:
        raise SpecError(
            "target: the search holds rows back, and there is only one to train on", param="target"
        )
    rest, searching = hold_back(prepared, spec.seed)
    judge = _Judge(module, searching, device, spec.target)
    warnings = [] if prepared.search is not None else _learned_by_heart(module, prepared, judge, device)
    for warning in warnings:
        emit(WarningEvent(message=warning))
    so_far = _SoFar(keeper, spec, module)
    with keeper.keeping("target", so_far.level):
        if so_far.searched_for is None:
            search_spec = spec
            if spec.max_minutes is not None:
                search_spec = spec.model_copy(update={"max_minutes": SEARCH_SHARE * spec.max_minutes})
            with torch.random.fork_rng():
                torch.manual_seed(spec.seed)
                part = _scaled(emit, 0.0, SEARCH_SHARE)
                search = Search(copy.deepcopy(module), rest, search_spec, device, part, start, keeper)
                search.run(judge.judged)
            so_far.searched(search)
        while not so_far.over and (asked := so_far.next_asked()) is not None:
            emit(StageEvent(stage="pruning", message=f"a whole training at density {asked.one_density:g}"))
            part = _scaled(emit, 0.95 if so_far.outcomes else SEARCH_SHARE, 1.0)
            own = copy.deepcopy(module)
            result = train(own, rest, asked, device, part, start, keeper)
            so_far.trained(Trained(spec.at(asked.one_density), own, result), *judge.judged(own))
    return _best(so_far, judge, spec, emit, warnings)


@dataclass(frozen=True)
class _Outcome:
    """A whole training, and how its model measures on the rows of the search."""

    within: bool
    value: float
    trained: Trained
    kept: tuple[Notes, Part] | None


class _SoFar:
    """What was searched and trained for a target until now, earlier attempts included.

    Attributes:
        tried: every density, in order.
        outcomes: the whole trainings.
        searched_for: seconds that the search took; None: it is not over.
        warnings: where time was up.
    """

    def __init__(self, keeper: Keeper, spec: PruneSpec, module: Trainable) -> None:
        self._keeps = keeper.keeps
        self._spec = spec
        self._begun = time.monotonic()
        self._density = DENSEST
        self._minutes: float | None = None
        self.tried: list[TriedDensity] = []
        self.outcomes: list[_Outcome] = []
        self.searched_for: float | None = None
        self.warnings: list[str] = []
        found = keeper.found("target")
        if found is None:
            return
        with fitting():
            notes = found.notes
            self._begun -= float(notes["elapsed"])
            self._density, self._minutes = notes["density"], notes["minutes"]
            self.searched_for = notes["searched_for"]
            self.warnings = list(notes["warnings"])
            self.tried = [TriedDensity.model_validate(one) for one in notes["tried"]]
            for number, one in enumerate(notes["outcomes"]):
                kept = one["training"], found.parts[str(number)]
                trained = trained_of(*kept, spec, copy.deepcopy(module))
                self.outcomes.append(_Outcome(one["within"], one["value"], trained, kept))

    def searched(self, search: Search) -> None:
        """The search is over."""
        self.tried, self._density = list(search.tried), answer(search.tried)
        if search.cut:
            self.warnings.append(
                f"max_minutes: the search for the density was cut after {len(self.tried)} of them; "
                "give it more time for a better result"
            )
        self.searched_for = time.monotonic() - self._begun

    @property
    def over(self) -> bool:
        """Whether a whole training is within, or there is no use in another one."""
        if not self.outcomes:
            return False
        last = self.outcomes[-1]
        return last.within or last.trained.spec.one_density >= DENSEST or len(self.outcomes) == WHOLE

    def next_asked(self) -> PruneSpec | None:
        """What the next whole training is asked for; None: there is no time for another one."""
        asked, limit = self._spec.at(self._density), self._spec.max_minutes
        if limit is None:
            return asked
        if self._minutes is None:
            left = limit - (time.monotonic() - self._begun) / 60.0
            if left <= 0.0 and self.outcomes:
                self.warnings.append("max_minutes: time was up before a denser model could be trained")
                return None
            self._minutes = max(left, 0.01 * limit)
        return asked.model_copy(update={"max_minutes": self._minutes})

    def trained(self, trained: Trained, value: float, within: bool) -> None:
        """A whole training is over."""
        steps, density = int(trained.result.settings["steps_done"]), self._density
        self.tried.append(TriedDensity(density=density, value=value, within=within, steps=steps, whole=True))
        kept = part_of(trained) if self._keeps else None
        self.outcomes.append(_Outcome(within, value, trained, kept))
        self._density, self._minutes = _denser(density, self.tried), None

    def level(self) -> Level:
        """All of it, for a checkpoint."""
        kept = [(one, *one.kept) for one in self.outcomes if one.kept is not None]
        notes = {
            "elapsed": time.monotonic() - self._begun,
            "density": self._density,
            "minutes": self._minutes,
            "searched_for": self.searched_for,
            "warnings": self.warnings,
            "tried": [one.model_dump() for one in self.tried],
            "outcomes": [
                {"within": one.within, "value": one.value, "training": training} for one, training, _ in kept
            ],
        }
        return Level(notes, parts={str(number): part for number, (_, _, part) in enumerate(kept)})


def _best(so_far: _SoFar, judge: _Judge, spec: PruneSpec, emit: Listener, before: list[str]) -> Trained:
    """The one that is within, else the one that comes nearest; with how it was found."""
    sign = 1.0 if judge.limit.higher_is_better else -1.0
    best = max(so_far.outcomes, key=lambda one: (one.within, sign * one.value))
    within, value, chosen = best.within, best.value, best.trained
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
        tried=so_far.tried,
    )
    warnings = [*before, *so_far.warnings, *chosen.result.warnings]
    if not within:
        warnings.append(
            f"target: not met. The best that was found, density {density:g}, measures {value:.5g} on the "
            f"{judge.rows} rows of the search, where {judge.limit.worst:.5g} was asked for and the dense "
            f"model has {judge.limit.dense:.5g}. Allow a larger loss, or more effort."
        )
        emit(WarningEvent(message=warnings[-1]))
    durations = dict(chosen.result.durations)
    durations["pruning"] = durations.get("pruning", 0.0) + (so_far.searched_for or 0.0)
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

    def judged(self, module: Trainable) -> tuple[float, bool]:
        """The metric of a module, and whether that is within."""
        value = self._sample.measure(module)
        return value, self.limit.holds(value)


def _scaled(emit: Listener, start: float, end: float) -> Listener:
    """Let the progress of a part of the work be the progress from `start` to `end` of all of it."""

    def pass_on(event: Told) -> None:
        if isinstance(event, ProgressEvent):
            done = start + (end - start) * event.progress.fraction
            event = event.model_copy(
                update={"progress": event.progress.model_copy(update={"fraction": done})}
            )
        emit(event)

    return pass_on
