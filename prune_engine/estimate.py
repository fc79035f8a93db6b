"""How much memory and time a job will take, from what can be measured in a second. Rough, and says so."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from prune_engine.data.running import batch_slices
from prune_engine.inspection import MemoryEstimate, TimeEstimate
from prune_engine.measure.step import Clock, StepCost, one_thread
from prune_engine.spec import PruneSpec
from prune_engine.training.frontier import total_steps
from prune_engine.training.layers import layout_of
from prune_engine.training.length import LARGEST_BATCH
from prune_engine.training.rate_probe import STEPS as PROBE_STEPS
from prune_engine.training.result import PrunableInfo
from prune_engine.training.run import MEASUREMENTS
from prune_engine.training.settings import AUTO_RATE, Settings, outputs, resolve
from prune_engine.training.target import expected_steps
from prune_engine.training.validation import LARGEST_SAMPLE

LIBRARIES = 480_000_000
"""Bytes of Python with torch, onnx and onnxruntime, before anything is loaded."""

FLOAT = 4
WEIGHT_COPIES = 13
"""Floats for each trained parameter.

As sent, shown, trained, gradient (twice while it is collected), Adam's two moments, the teacher (twice), the
dense values, those before fine-tuning, and the kept ones while their phase begins (twice).
"""

SNAPSHOT_COPIES = 14
"""Floats more where a training is kept: twice values, logits and Adam's moments of both; another module."""

GATE_COPIES = 6
"""Floats for each gate: logit, gradient, Adam's two moments, the bank of noise, and one at work."""

GRAPH_COPIES = 6
"""Times the file: the graph, the two that are written back, and the sessions that measure them."""

GRADIENTS, INFERENCE = 1.5, 0.4
"""Of the activations: what they take in a step with their gradients, and while onnxruntime measures."""

STEP_OVERHEAD = 0.001
"""Seconds of a step that no arithmetic takes."""

FORWARD = 1 / 3
"""Of a forward and backward pass, the forward pass."""

ASSUMED_ROWS = 16 * LARGEST_BATCH
"""Rows from which on the length of a training hardly depends on how many there are."""

UPKEEP_PASSES = 16
"""A step's work on gates and optimiser, in multiply-and-add passes over all weights; measured: 10 to 24."""

_SAMPLE = 1 << 22


def resolved(
    spec: PruneSpec,
    prunable: Sequence[PrunableInfo],
    *,
    rows: int | None,
    fixed_batch: int | None,
    labelled: bool,
    row_operations: int | None,
) -> Settings:
    """The settings that a job on a CPU would be run with; without data for as many rows as are usual.

    Raises:
        SpecError: the density keeps no weight.
    """
    return resolve(
        spec,
        layout=layout_of(prunable, spec),
        neurons=sum(outputs(weight) for weight in prunable),
        rows=ASSUMED_ROWS if rows is None else rows,
        fixed_batch=fixed_batch,
        labelled=labelled,
        row_operations=row_operations,
    )


def job_steps(spec: PruneSpec, settings: Settings) -> int:
    """Training steps of all densities of a job, or those that a search is taken to need.

    Args:
        spec: what is asked.
        settings: of a training to one of its densities.
    """
    if spec.target is not None:
        return expected_steps(settings.total_steps)
    if spec.frontier is None:
        return settings.total_steps
    asked = [density for density in spec.frontier if density < 1.0 or spec.epochs != "auto"]
    stops = [replace(settings, gates=replace(settings.gates, density=density)) for density in asked]
    return total_steps(stops) if stops else 0


def estimate_memory(
    settings: Settings,
    *,
    parameters: int,
    prunable: int,
    file_bytes: int,
    data_bytes: int | None,
    row_bytes: int,
    cost: StepCost | None,
    models: int = 1,
) -> MemoryEstimate:
    """Main memory at the peak of a job on a CPU.

    Args:
        settings: as they were resolved.
        parameters: elements of all that is trained.
        prunable: elements of the prunable weights.
        file_bytes: of the model as ONNX.
        data_bytes: of all rows; None: there are no data.
        row_bytes: of one row as the model gets it.
        cost: of a forward and backward pass; None: not known.
        models: that come of it; of more than one the training is kept between two steps.
    """
    weights = FLOAT * (WEIGHT_COPIES + (SNAPSHOT_COPIES if models > 1 else 0)) * parameters
    gates = FLOAT * GATE_COPIES * prunable
    activations = None
    if cost is not None:
        measured = max(part.stop - part.start for part in batch_slices(ASSUMED_ROWS, None, row_bytes))
        rows = GRADIENTS * settings.batch_size + INFERENCE * measured
        activations = round(cost.activation_bytes * rows)
    graph = (GRAPH_COPIES + models - 1) * file_bytes
    return MemoryEstimate(
        bytes=LIBRARIES + weights + gates + (activations or 0) + graph + 2 * (data_bytes or 0),
        libraries=LIBRARIES,
        weights=weights,
        gates=gates,
        activations=activations,
        graph=graph,
        data=None if data_bytes is None else 2 * data_bytes,
        batch_size=settings.batch_size,
        how="counted from the parameters; activations were measured in one small step and taken times the "
        "rows that are computed at a time"
        if cost is not None
        else "counted from the parameters; activations are missing, for no step could be measured",
    )


def estimate_time(
    spec: PruneSpec,
    settings: Settings,
    cost: StepCost,
    weights: Mapping[str, nn.Parameter],
    *,
    holdout: int | None,
) -> TimeEstimate:
    """Seconds of the training on this machine's CPU: those of a step, times the steps; and measuring.

    Args:
        spec: what is asked.
        settings: as they were resolved.
        cost: of a forward and backward pass.
        weights: all that is trained.
        holdout: rows to measure with; None: there are no data.
    """
    if spec.device == "cuda" or (spec.device == "auto" and torch.cuda.is_available()):
        return unknown_time("the job would run on a GPU; only the CPU was measured")
    per_step = cost.of(settings.batch_size) + _upkeep_seconds(weights) + STEP_OVERHEAD
    if holdout is None and spec.epochs != "auto":
        return TimeEstimate(
            seconds=None,
            steps=None,
            seconds_per_step=per_step,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            how="how many steps an epoch has is not known without data",
        )
    probed = PROBE_STEPS if settings.learning_rate_why == AUTO_RATE else 0
    steps = job_steps(spec, settings)
    seconds = (steps + probed) * per_step
    measured_rows = ASSUMED_ROWS // 4 if holdout is None else min(holdout, LARGEST_SAMPLE)
    forward = min(settings.total_steps, MEASUREMENTS) * measured_rows
    if settings.distillation > 0:  # the teacher's outputs are remembered after the first epoch
        forward += settings.steps_per_epoch * settings.batch_size
    seconds += FORWARD * cost.seconds_per_row * forward
    if spec.max_minutes is not None:
        seconds = min(seconds, 60.0 * spec.max_minutes)
    measured = (
        f"one forward and backward pass of {cost.rows} rows was measured on {_threads(cost)} of this machine"
    )
    rows = "" if holdout is not None else f"; without data, {ASSUMED_ROWS:,} rows or more were assumed"
    return TimeEstimate(
        seconds=seconds,
        steps=steps,
        seconds_per_step=per_step,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        how=f"{measured} and taken times the batch size and the steps ({settings.epochs_why}"
        f"{_times_as_many(spec, steps, settings)}){rows}; rough",
    )


def _times_as_many(spec: PruneSpec, steps: int, settings: Settings) -> str:
    """How a job with several densities compares with one; nothing where there is one."""
    if spec.density is not None or not settings.total_steps:
        return ""
    what = "the search for the density takes" if spec.target else f"{len(spec.densities)} densities take"
    return f"; {what} {steps / settings.total_steps:.1f} times as many as one"


def unknown_time(reason: str) -> TimeEstimate:
    """No estimate, and why."""
    return TimeEstimate(
        seconds=None, steps=None, seconds_per_step=None, epochs=None, batch_size=None, how=reason
    )


def _threads(cost: StepCost) -> str:
    there = torch.get_num_threads()
    if cost.threads < there:
        return f"1 of {there} threads (they had to wait: the machine is busy, or the model small)"
    return "1 thread" if there == 1 else f"{there} threads"


def _upkeep_seconds(weights: Mapping[str, nn.Parameter]) -> float:
    """Seconds that gates and optimiser take in a step, from what one pass over as many floats takes."""
    total = sum(weight.numel() for weight in weights.values())
    count = max(min(total, _SAMPLE), 1)
    floats, others = torch.ones(count), torch.ones(count)

    def once(clock: Clock) -> float:
        started = clock()
        floats.mul_(0.999).add_(others)
        return clock() - started

    seconds = [once(time.perf_counter) for _ in range(3)]
    with one_thread():  # on a busy machine several would wait for each other
        seconds += [once(time.thread_time) for _ in range(3)]
    return UPKEEP_PASSES * min(seconds) * total / count
