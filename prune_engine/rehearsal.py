"""A job rehearsed in a second: multiply-adds, one small step, and what memory and time follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from prune_engine.data.preparing import Match
from prune_engine.data.running import fixed_batch
from prune_engine.errors import PruneError
from prune_engine.estimate import estimate_memory, estimate_time, resolved, unknown_time
from prune_engine.formats import OnnxModule, SourceModel
from prune_engine.inspection import MemoryEstimate, StepInfo, TimeEstimate
from prune_engine.measure import operations_info
from prune_engine.measure.sample import guessed, sample_rows
from prune_engine.measure.step import MORE, StepCost, StepError, measure_step
from prune_engine.report import TensorInfo
from prune_engine.spec import PruneSpec
from prune_engine.training.batch_freedom import runs_at_any_batch
from prune_engine.training.chosen import choose
from prune_engine.training.target import USUAL

_NOT_A_CHANCE = "the model cannot be pruned"


@dataclass(frozen=True)
class Rehearsal:
    """What was measured; `warnings` say what could not be."""

    time: TimeEstimate
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    multiply_adds: int | None = None
    step: StepInfo | None = None
    memory: MemoryEstimate | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Rows:
    """Rows to measure with, by input; `batched` inputs have them on their first axis."""

    values: Mapping[str, Tensor]
    batched: frozenset[str]

    def take(self, count: int) -> tuple[Tensor, ...]:
        """So many rows, repeated where there are fewer."""
        return tuple(
            value[torch.arange(count) % len(value)] if name in self.batched else value
            for name, value in self.values.items()
        )

    def row_bytes(self) -> int:
        """Bytes of one row."""
        return sum(value.nbytes for value in self.take(1))

    def shapes(self, count: int) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in zip(self.values, self.take(count), strict=True)}


def rehearse(
    source: SourceModel,
    spec: PruneSpec,
    module: OnnxModule | None,
    inputs: Sequence[TensorInfo],
    found: Match | None,
) -> Rehearsal:
    """Measure a model with rows of its data, or with made-up ones.

    Args:
        source: the model.
        spec: what is asked; its density matters little.
        module: the model in torch; None where it cannot be imported.
        inputs: of the graph.
        found: the data; None: there are none that fit.
    """
    fixed = fixed_batch(inputs) if found is None else found.trial.fixed
    rows = _made_up(module, inputs, fixed) if found is None else _of_data(found, inputs)
    if rows is None:
        said = "No input could be made up that the model runs on, so nothing could be measured"
        return Rehearsal(
            unknown_time("no input is known that the model runs on"), warnings=(f"{said}; send data.",)
        )
    shapes = rows.shapes(fixed or 1)
    operations, reason = operations_info(source.proto, {}, shapes)
    warnings = [reason] if reason and module is not None else []  # else something worse is wrong
    if found is None and (taken := guessed(inputs)):
        warnings.append(
            f"The file leaves open the {', '.join(taken)}; it was measured with "
            f"{', '.join('x'.join(map(str, shape)) for shape in shapes.values())}."
        )
    if module is None or not module.prunable:
        return Rehearsal(unknown_time(_NOT_A_CHANCE), shapes, operations.before, warnings=tuple(warnings))
    whole = len(rows.batched) == len(rows.values)
    if whole and fixed is not None and runs_at_any_batch(module, rows.take(2 * fixed), fixed):
        fixed = None
    cost: StepCost | None = None
    try:
        cost = measure_step(module, rows.take, fixed)
    except StepError as error:
        warnings.append(f"A training step could not be measured: {error}")
    memory, seconds = _estimates(source, spec, module, rows, found, fixed, cost, operations.before)
    step = None if cost is None else _step_info(cost)
    return Rehearsal(seconds, shapes, operations.before, step, memory, tuple(warnings))


def _estimates(
    source: SourceModel,
    spec: PruneSpec,
    module: OnnxModule,
    rows: _Rows,
    found: Match | None,
    fixed: int | None,
    cost: StepCost | None,
    multiply_adds: int | None,
) -> tuple[MemoryEstimate | None, TimeEstimate]:
    parameters = sum(weight.numel() for weight in module.weights.values())
    try:
        chosen = choose(module.prunable, spec)
        settings = resolved(
            spec if spec.density is not None else spec.at(min(spec.densities, default=USUAL)),
            chosen.gated,
            rows=None if found is None else len(found.train),
            fixed_batch=fixed,
            labelled=found is None or found.plan.task != "distillation",
            row_operations=multiply_adds,
        )
    except PruneError as error:
        return None, unknown_time(error.message)
    memory = estimate_memory(
        settings,
        parameters=parameters,
        prunable=chosen.prunable,
        file_bytes=source.proto.ByteSize() if source.format != "onnx" else source.bytes,
        data_bytes=None if found is None else _data_bytes(found),
        row_bytes=rows.row_bytes(),
        cost=cost,
        models=2 if spec.target is not None else len(spec.densities),
    )
    if cost is None:
        return memory, unknown_time("no training step could be measured")
    return memory, estimate_time(
        spec, settings, cost, module.weights, holdout=None if found is None else len(found.holdout)
    )


def _step_info(cost: StepCost) -> StepInfo:
    return StepInfo(
        rows=cost.rows,
        seconds=cost.seconds,
        seconds_per_row=cost.seconds_per_row,
        activation_bytes_per_row=cost.activation_bytes,
        threads=cost.threads,
    )


def _of_data(found: Match, inputs: Sequence[TensorInfo]) -> _Rows:
    names = [info.name for info in inputs]
    return _Rows(dict(zip(names, found.rows(MORE), strict=True)), frozenset(names))


def _made_up(module: OnnxModule | None, inputs: Sequence[TensorInfo], fixed: int | None) -> _Rows | None:
    """The first guess that the model runs on; the first of all where there is no module to ask."""
    batched = frozenset(info.name for info in inputs if info.shape and _is_batch(info.shape[0], fixed))
    opened = [
        info.model_copy(update={"shape": (None, *info.shape[1:])}) if info.name in batched else info
        for info in inputs
    ]
    for guess in sample_rows(opened, max(MORE, 2 * (fixed or 1))):
        rows = _Rows(guess, batched)
        if module is None or _runs(module, rows.take(fixed or 2)):
            return rows
    return None


def _is_batch(size: int | str | None, fixed: int | None) -> bool:
    return not isinstance(size, int) or size <= 0 or size == fixed


def _runs(module: OnnxModule, inputs: tuple[Tensor, ...]) -> bool:
    try:
        with torch.no_grad():
            module.eval()(*inputs)
    except Exception:  # noqa: BLE001 - whatever it is, this guess was wrong
        return False
    return True


def _data_bytes(found: Match) -> int:
    arrays = [*found.train.inputs.values(), *found.holdout.inputs.values()]
    return sum(array.nbytes for array in arrays)
