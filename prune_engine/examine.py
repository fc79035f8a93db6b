"""`examine`: everything that can be said of a model in seconds, before a job is queued."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from prune_engine import graph_facts
from prune_engine.data.preparing import Match, match
from prune_engine.data.raw import RawData
from prune_engine.data.task import metric_of
from prune_engine.errors import PruneError
from prune_engine.formats import SourceModel, input_infos, output_infos
from prune_engine.gates import Layout, lay_out
from prune_engine.granularity import Patterns, SingleWeights
from prune_engine.inspection import Complaint, DataMatch, DensityOutlook, Inspection, ParameterCount
from prune_engine.measure import run_session, session
from prune_engine.preflight import importable, model_warnings
from prune_engine.rehearsal import rehearse
from prune_engine.report import Metric
from prune_engine.spec import PruneSpec
from prune_engine.training.chosen import choose
from prune_engine.training.layers import layout_of
from prune_engine.training.target import limit_of

T = TypeVar("T")


def examine(
    source: SourceModel,
    spec: PruneSpec,
    *,
    densities: Sequence[float] = (),
    raw: RawData | None = None,
    problems: Sequence[PruneError] = (),
    notes: Sequence[str] = (),
) -> Inspection:
    """What a job with this model would find. What is wrong with model or data is told, not raised.

    Args:
        source: the model.
        spec: what is asked; its density counts only where `densities` repeat it.
        densities: that were asked for, each of which must be possible; the outlook tells of the smallest.
        raw: the data; None: there are none.
        problems: what has been found to be wrong already.
        notes: warnings that there are already.

    Raises:
        ModelError: the graph is so damaged that its nodes cannot be walked.
    """
    begun = time.perf_counter()
    wrong, proto = list(problems), source.proto
    graph = graph_facts.inspected_graph(proto)
    module = _attempt(wrong, lambda: importable(source))
    found = _attempt(wrong, lambda: _matched(source, raw, spec)) if raw is not None else None
    if found is not None:
        _attempt(wrong, lambda: check_target(spec, metric_of(found.plan, None)))
    every = graph_facts.prunable_weights(graph, module)
    chosen = _attempt(wrong, lambda: choose(every, spec))
    gated = every if chosen is None else chosen.gated
    weights = graph_facts.weight_rows(gated, graph, module)
    prunable = sum(weight.count for weight in weights)
    outlook = None
    if prunable:
        layout = None if chosen is None else _attempt(wrong, lambda: layout_of(gated, spec))
        layout = layout or lay_out(gated, [weight.name for weight in gated], SingleWeights())
        kept = _attempt(wrong, lambda: [layout.kept(density) for density in sorted(densities, reverse=True)])
        outlook = _outlook(layout, min(densities, default=None), kept[-1] if kept else None)
    warnings = list(source.warnings) if module is None else model_warnings(source, module)
    inputs = input_infos(proto)
    measured = rehearse(source, spec, module, inputs, found)
    if measured.multiply_adds is None and not wrong:
        _attempt(wrong, lambda: session(proto))  # where the count had a session, there is one
    warnings += [*notes, *(raw.warnings if raw else ()), *(found.unused if found else ()), *measured.warnings]
    if raw is None and len(inputs) > 1:
        names = ", ".join(f"'{info.name}'" for info in inputs)
        warnings.append(f"The model has {len(inputs)} inputs; the data must have an array for each: {names}.")
    return Inspection(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=time.perf_counter() - begun,
        prunable=not wrong,
        problems=[Complaint(code=e.code, message=e.message, param=e.param) for e in wrong],
        warnings=warnings,
        filename=source.filename,
        format=source.format,
        route=source.route,
        sha256=source.sha256,
        bytes=source.bytes,
        opsets={domain or "ai.onnx": version for domain, version in graph.opsets.items()},
        ir_version=proto.ir_version,
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        inputs=inputs,
        outputs=output_infos(proto),
        operators=graph_facts.operator_support(graph),
        weights=weights,
        left_out=[] if chosen is None else list(chosen.left_out),
        not_prunable=graph_facts.kept_constants(graph, {weight.name for weight in every}),
        parameters=ParameterCount(total=graph_facts.trained_parameters(graph, module), prunable=prunable),
        density=outlook,
        measured_with=dict(measured.shapes),
        multiply_adds=measured.multiply_adds,
        step=measured.step,
        memory=measured.memory,
        time=measured.time,
        data=_described(found, raw),
    )


def check_target(spec: PruneSpec, metric: Metric) -> None:
    """That the target, if there is one, is one for what the model is measured with.

    Raises:
        SpecError: accuracy where errors are measured, or the other way round.
    """
    if spec.target is not None:
        limit_of(spec.target, metric.name, metric.higher_is_better, dense=0.0)


def _attempt(wrong: list[PruneError], work: Callable[[], T]) -> T | None:
    """What `work` gives; None where it is refused, which is then among what is wrong."""
    try:
        return work()
    except PruneError as error:
        wrong.append(error)
        return None


def _matched(source: SourceModel, raw: RawData, spec: PruneSpec) -> Match:
    runtime = session(source.proto)
    inputs, outputs = input_infos(source.proto), output_infos(source.proto)
    return match(raw, inputs, outputs, lambda feed: run_session(runtime, feed), spec)


def _outlook(layout: Layout, requested: float | None, kept: int | None) -> DensityOutlook:
    prunable = layout.prunable
    fixed = isinstance(layout.granularity, Patterns)
    return DensityOutlook(
        granularity=str(layout.granularity),
        smallest=layout.smallest_density,
        step=0.0 if fixed else 1 / layout.units,
        requested=requested,
        kept=kept,
        reached=None if kept is None else kept / prunable,
    )


def _described(found: Match | None, raw: RawData | None) -> DataMatch | None:
    if found is None or raw is None:
        return None
    return DataMatch(
        name=raw.name,
        kind=raw.kind,
        task=found.plan.task,
        classes=found.plan.classes,
        train_rows=len(found.train),
        holdout_rows=len(found.holdout),
        holdout_source=found.how,
    )
