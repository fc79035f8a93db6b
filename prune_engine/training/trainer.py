"""The training of a pruning run, from the dense module to the exact density."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from prune_engine.checkpoints.keeper import NOTHING_KEPT, Keeper
from prune_engine.events import Listener, StageEvent
from prune_engine.methods import METHODS
from prune_engine.spec import PruneSpec
from prune_engine.training.clock import Clock
from prune_engine.training.keeping import go_on, level_of
from prune_engine.training.result import Trainable, TrainingResult
from prune_engine.training.run import Ending, Run
from prune_engine.training.settings import Settings
from prune_engine.training.subject import Subject

if TYPE_CHECKING:
    from prune_engine.data import Prepared


def train(
    module: Trainable,
    prepared: Prepared,
    spec: PruneSpec,
    device: torch.device,
    emit: Listener,
    start: Mapping[str, np.ndarray] | None = None,
    keeper: Keeper = NOTHING_KEPT,
) -> TrainingResult:
    """Prune `module` to `spec.density` and fine-tune it; on return it holds the final weights.

    Weights are zero exactly where the mask is False. The same module, data, spec and number of threads give
    the same result bit for bit on a CPU, unless `max_minutes` cuts the training short. At density 1, unless
    epochs are asked for, nothing is trained and every value stays bit for bit. With `start`, values by name,
    training starts from those; the module as it comes is then only the teacher. Where `keeper` has a
    checkpoint it goes on from that, to the same bits.

    Raises:
        SpecError: the density keeps no weight; or `include` and `exclude` leave none, or name none.
        ModelError: the weights do not share one dtype.
        DivergedError: the loss became NaN or infinite.
    """
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        started = time.monotonic()
        subject = Subject(module, prepared, spec, device, start)
        settings = subject.settings(spec)
        if settings.total_steps == 0:
            return untrained(subject, settings, emit)
        emit(StageEvent(stage="pruning", message=_announcement(settings)))
        run = Run(subject, settings, Clock(settings.total_steps, settings.max_minutes), emit, keeper)
        run.ending = Ending(started)
        if go_on(run, keeper):
            emit(StageEvent(stage=run.phase.stage, message=goes_on(run)))
        with keeper.training(partial(level_of, run)):
            result = follow_to_the_end(run, emit)
        subject.fold()
        return replace(result, warnings=[*result.warnings, *cut_short(run.clock)])


def follow_to_the_end(run: Run, emit: Listener) -> TrainingResult:
    """All phases that are left of a run, one after the other.

    Args:
        run: its module holds the final weights afterwards, and is in inference mode.
        emit: who is told.
    """
    settings, subject, ending = run.settings, run.subject, run.ending
    prunes = settings.gates.kept < subject.flat.prunable
    if run.gates_open:
        if prunes:
            run.advance(settings.gates_until)
        run.close_gates()
    if ending.fixed_at is None:
        if prunes and settings.regrow:
            run.advance(settings.gates.fix_mask_at)
        run.fix()
        ending.fixed_at = time.monotonic()
        ending.before_finetuning = values_of(subject)
        emit(StageEvent(stage="finetuning", message=f"mask fixed: {settings.gates.kept} weights kept"))
    run.advance(1.0)
    run.finish()
    return TrainingResult(
        masks=subject.flat.split_mask(run.mask()),
        before_finetuning=ending.before_finetuning,
        curve=list(run.curve.points),
        settings={**run.settings.as_dict(), "steps_done": run.clock.step},
        warnings=list(run.recovery.warnings),
        durations={
            "pruning": ending.fixed_at - ending.started,
            "finetuning": time.monotonic() - ending.fixed_at,
        },
    )


def untrained(subject: Subject, settings: Settings, emit: Listener) -> TrainingResult:
    """The module as it came, without the weights that the method drops unseen: none at density 1."""
    emit(StageEvent(stage="pruning", message=settings.epochs_why))
    subject.begin()
    flat = subject.flat
    mask = torch.ones(flat.prunable, dtype=torch.bool, device=flat.values.device)
    if settings.gates.kept < flat.prunable:
        mask = METHODS[settings.method](flat, settings.gates, subject.layout).mask()
        flat.shown[: flat.prunable].masked_fill_(~mask, 0.0)
    subject.module.eval()
    return TrainingResult(
        masks=subject.flat.split_mask(mask),
        before_finetuning=values_of(subject),
        curve=[],
        settings={**settings.as_dict(), "steps_done": 0},
        warnings=[],
        durations={"pruning": 0.0, "finetuning": 0.0},
    )


def values_of(subject: Subject) -> dict[str, np.ndarray]:
    """Name -> value of parameters and running statistics, copied."""
    return {name: np.array(value) for name, value in subject.module.state_values().items()}


def cut_short(clock: Clock) -> list[str]:
    """A warning where time ran out before the steps were done."""
    missing = clock.missing
    if not missing:
        return []
    total = clock.step + missing
    return [
        f"max_minutes: the training was cut to {clock.step} of {total} steps; "
        "give it more time for a better result"
    ]


def goes_on(run: Run) -> str:
    """What is said of a run that goes on from a checkpoint."""
    return f"goes on from a checkpoint, step {run.clock.step} of {run.clock.total_steps}"


def _announcement(settings: Settings) -> str:
    return (
        f"{settings.method} to density {settings.gates.density:g}: {settings.gates.kept} weights, "
        f"{settings.epochs} epochs of {settings.steps_per_epoch} steps"
    )
