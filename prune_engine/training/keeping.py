"""How a training is kept in checkpoints and goes on: its run, and what came of trainings that have ended."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from prune_engine.checkpoints.keeper import Keeper, Level, Notes, Part, fitting, unchanging
from prune_engine.spec import PruneSpec
from prune_engine.state import State, part, prefixed, tensor_of
from prune_engine.training.curve import as_points, as_rows
from prune_engine.training.result import Trainable, Trained, TrainingResult
from prune_engine.training.run import Run
from prune_engine.training.snapshot import live, restore


def level_of(run: Run) -> Level:
    """A run between two steps, all of it."""
    recovery, ending, settings = run.recovery.level(), run.ending, run.settings
    now, parts = time.monotonic(), dict(recovery.parts)
    if ending.fixed_at is not None:
        if ending.part is None:
            ending.part = Part(_bytes(ending.before_finetuning))
        parts["before-finetuning"] = ending.part
    notes = {
        "step": run.clock.step,
        "total_steps": run.clock.total_steps,
        "learning_rate": settings.learning_rate,
        "learning_rate_why": settings.learning_rate_why,
        "bearable": run.bearable,
        "times": run.clock.times(),
        "seconds": now - ending.started,
        "fixed_for": None if ending.fixed_at is None else now - ending.fixed_at,
        "recovery": recovery.notes,
    }
    return Level(notes, live(run), parts)


def go_on(run: Run, keeper: Keeper) -> bool:
    """Bring a run that has just begun to where a checkpoint has it; False: there is none.

    Raises:
        UnfitCheckpointError: the checkpoint is of another training.
    """
    found = keeper.found("run")
    if found is None:
        return False
    with fitting():
        _go_on(run, found)
    return True


def _go_on(run: Run, found: Level) -> None:
    notes, now = found.notes, time.monotonic()
    run.bearable = notes["bearable"]
    run.settings = replace(
        run.settings, learning_rate=notes["learning_rate"], learning_rate_why=notes["learning_rate_why"]
    )
    run.pruning.peak = run.settings.learning_rate
    assert found.state is not None  # noqa: S101 - `level_of` gives one
    restore(run, found.state)
    run.clock.go_on(notes["times"])
    run.curve.go_on(run.clock.elapsed)
    kept = Level(notes["recovery"], parts={"kept": found.parts["kept"]})
    run.recovery.go_on(kept)
    run.ending.started = now - notes["seconds"]
    if notes["fixed_for"] is not None:
        run.ending.fixed_at = now - notes["fixed_for"]
        run.ending.part = found.parts["before-finetuning"]
        run.ending.before_finetuning = _arrays(run.ending.part.state, run.subject.module.state_values())


def part_of(trained: Trained) -> tuple[Notes, Part]:
    """A training that has ended: for a checkpoint, until the job is done."""
    result, module = trained.result, trained.module
    state = {
        **prefixed("module", _tensors(module)),
        **prefixed("before", _bytes(result.before_finetuning)),
        **prefixed("mask", {name: torch.from_numpy(mask) for name, mask in result.masks.items()}),
        "curve": as_rows(result.curve),
    }
    notes = {
        "density": trained.spec.one_density,
        "settings": result.settings,
        "warnings": result.warnings,
        "durations": result.durations,
    }
    return notes, unchanging(state)


def trained_of(notes: Notes, kept: Part, spec: PruneSpec, module: Trainable) -> Trained:
    """The training that `part_of` kept.

    Args:
        notes, kept: from `part_of`.
        spec: the spec of the job.
        module: takes on the values.
    """
    with fitting():
        state = kept.state
        there = _tensors(module)
        values = part(state, "module")
        if set(there) != set(values):
            raise KeyError("the module has other parameters")
        with torch.no_grad():
            for name in there:
                tensor_of(there, name).copy_(tensor_of(values, name))
        module.eval()
        result = TrainingResult(
            masks={name: tensor_of(state, f"mask.{name}").numpy() for name in part(state, "mask")},
            before_finetuning=_arrays(part(state, "before"), module.state_values()),
            curve=as_points(tensor_of(state, "curve")),
            settings=dict(notes["settings"]),
            warnings=list(notes["warnings"]),
            durations=dict(notes["durations"]),
        )
        return Trained(spec.at(notes["density"]), module, result)


def _tensors(module: Trainable) -> State:
    assert isinstance(module, nn.Module)  # noqa: S101 - every module with parameters is one
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _bytes(arrays: dict[str, np.ndarray]) -> State:
    """Arrays of any type, also of those that torch does not know."""
    return {
        name: torch.from_numpy(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        for name, array in arrays.items()
    }


def _arrays(state: State, like: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of `_bytes`, each in type and shape as the one of its name in `like`."""
    return {
        name: tensor_of(state, name).numpy().view(array.dtype).reshape(array.shape)
        for name, array in like.items()
    }
