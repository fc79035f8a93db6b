"""`prune()`: the order of the work, readable on one screen; `inspect()`: what it would find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch

from prune_engine.agreement import outputs_agree
from prune_engine.catalogue import default_cache_dir, fetch
from prune_engine.checkpoints.identity import digest_of
from prune_engine.checkpoints.keeper import NOTHING_KEPT, Checkpoints, Keeper, UnfitCheckpointError
from prune_engine.data import RawData, candidate_shapes, data_from_arrays, prepare, read_data
from prune_engine.data.part import with_search_rows
from prune_engine.environment import choose_device, describe_environment
from prune_engine.errors import DeviceError, ModelError, PruneError, VerificationError
from prune_engine.events import Listener, silent
from prune_engine.examine import check_target, examine
from prune_engine.finishing import Finish, sample_of
from prune_engine.formats import (
    OnnxModule,
    Replays,
    SourceModel,
    input_infos,
    output_infos,
    read_model,
    source_from_proto,
)
from prune_engine.formats.fresh import fresh_values
from prune_engine.formats.recognise import recognise
from prune_engine.formats.storage import Storage
from prune_engine.inspection import Inspection
from prune_engine.measure import measure_quality, run_session, session
from prune_engine.preflight import importable, model_warnings, start_warnings
from prune_engine.ranks import processes_here
from prune_engine.report import DataInfo, Report, TargetInfo
from prune_engine.spec import PruneSpec, has_goal, parse_spec, with_density
from prune_engine.stops import stop_row, stop_warnings
from prune_engine.stopwatch import Stopwatch
from prune_engine.summary import model_info
from prune_engine.training import distributed, train_for
from prune_engine.training.chosen import choose
from prune_engine.training.layers import layout_of
from prune_engine.unchanged import starting_model

STAND_IN = 0.9
"""Density of an inspection for which none was asked; it decides nothing but whether there is a training."""


@dataclass(frozen=True)
class PruneResult:
    """What came of a run: the pruned model, the masks (True = kept, by initializer name) and the report.

    `storage` is how the model's files were laid out where it came as a zip of several. `stops` has the model
    of every density of a frontier; `model` is then the sparsest of them.
    """

    model: onnx.ModelProto
    masks: dict[str, np.ndarray]
    report: Report
    storage: Storage | None = None
    stops: Mapping[float, onnx.ModelProto] = field(default_factory=dict)

    def save(self, folder: Path | str) -> list[str]:
        """Write the model, the masks, the report and its pictures; return the files' names."""
        from prune_engine.outputs import save

        return save(self, Path(folder))


@dataclass(frozen=True)
class Labels:
    """What the report calls things; none of it changes the work."""

    job_id: str | None = None
    model_filename: str | None = None
    data_name: str | None = None
    data_source: Literal["named", "supplied", "memory"] = "supplied"
    sandbox: str | None = None


def prune(
    model: Path | str | onnx.ModelProto,
    data: Path | str | Mapping[str, np.ndarray],
    spec: PruneSpec,
    *,
    listener: Listener = silent,
    tokenizer: Path | None = None,
    datasets_dir: Path | None = None,
    labels: Labels | None = None,
    checkpoints: Checkpoints | Path | str | None = None,
) -> PruneResult:
    """Prune a trained model to exactly the density asked for and measure what that cost and bought.

    Args:
        model: an ONNX file, a zip of one and its data files, a TorchScript or torch.export archive, or an
        ONNX model in memory.
        data: a data file, the name of a data set (`digits`, ...), or arrays (`x_train`, `y_train`, ...).
        spec: what is asked.
        listener: called with every event of the run, in this thread.
        tokenizer: a `tokenizer.json` for text data.
        datasets_dir: where `<name>.npz` of a named data set is looked for first.
        labels: names for the report.
        checkpoints: a folder for checkpoints, written every minute while weights are trained. The same call
        goes on with a run that was ended by anything; one that succeeds leaves none. With `Checkpoints` of
        its own a caller has the interval, can stop the run, and removes the last one by `end`.

    Raises:
        InputError: the model, the data or the spec cannot be used; the subclass and its code say why.
        EngineError: training diverged or the pruned model failed a check.
        StoppedError: `checkpoints.stop` asked for it; the last checkpoint is written.
    """
    if spec.gpus > 1 and distributed.ranks() == 1:
        raise DeviceError(
            "gpus: several train together in a job of the service, or by `torchrun --nproc-per-node "
            f"{spec.gpus} -m prune_engine run DIR`; here leave it out",
            param="gpus",
        )
    if checkpoints is None:
        return _prune(model, data, spec, Stopwatch(listener), tokenizer, datasets_dir, labels or Labels())
    kept = checkpoints if isinstance(checkpoints, Checkpoints) else Checkpoints(checkpoints)
    watch = Stopwatch(listener, kept.stop)
    kept.begin(digest_of(spec, model, data, tokenizer), watch.listen)
    try:
        result = _prune(model, data, spec, watch, tokenizer, datasets_dir, labels or Labels(), kept)
    except UnfitCheckpointError as error:
        kept.give_up(str(error))
        result = _prune(model, data, spec, watch, tokenizer, datasets_dir, labels or Labels(), kept)
    if kept is not checkpoints:
        kept.end()
    return result


def _prune(
    model: Path | str | onnx.ModelProto,
    data: Path | str | Mapping[str, np.ndarray],
    spec: PruneSpec,
    watch: Stopwatch,
    tokenizer: Path | None,
    datasets_dir: Path | None,
    labels: Labels,
    keeper: Keeper = NOTHING_KEPT,
) -> PruneResult:
    """All the work, in its order."""
    torch.manual_seed(spec.seed)
    with watch.stage("preparing", "reading the model and the data"):
        device = choose_device(spec.device, processes_here() if distributed.ranks() > 1 else 1)
        source = _read_model(model, None, spec, labels) if knows_its_shapes(model, spec) else None
        module = importable(source) if source is not None else None  # refused before data are fetched
        raw = _read_data(data, spec, tokenizer, datasets_dir, labels)
        source = source or _read_model(model, raw, spec, labels)
        module = module or importable(source)
        dense = session(source.proto)
        inputs, outputs = input_infos(source.proto), output_infos(source.proto)
        chosen = choose(module.prunable, spec)
        layout = layout_of(chosen.gated, spec)
        for density in spec.densities:
            layout.kept(density)
        fresh = fresh_values(source.proto, spec.seed) if spec.init == "random" else None
        start = None if fresh is None else fresh.values
        started = None if spec.train_weights else starting_model(source.proto, module, start)
        prepared = prepare(raw, inputs, outputs, lambda feed: run_session(dense, feed), spec)
        check_target(spec, prepared.metric)
        if spec.target is not None and spec.target.rows == "held_out":
            prepared = with_search_rows(prepared, spec.seed)
    warnings = [*model_warnings(source, module), *prepared.warnings, *start_warnings(spec, module, fresh)]
    for warning in warnings:
        watch.warn(warning)
    with watch.stage("baseline", "measuring the dense model"):
        quality_dense = measure_quality(dense, prepared.holdout, prepared, dense)
        if fresh is None:
            agreed = outputs_agree(source.proto, dense, module, sample_of(prepared))
            if not agreed.passed:
                raise VerificationError(
                    "torch computes something else with this model than onnxruntime does, so what is trained "
                    f"would not be what is handed out: {agreed.detail}"
                )
    if device.type == "cuda" and spec.acceleration == "auto":
        # A recorded pass goes back from every output, also from those that the loss does not look at.
        against = "" if len(module.output_names) == 1 else "the model has several outputs"
        module.replays = Replays(against=against)
    dense_values = {name: weight.detach().cpu().numpy().copy() for name, weight in module.weights.items()}
    finish = Finish(
        source, dense, dense_values, quality_dense, prepared, layout, started, labels.job_id, watch
    )
    stops, target = [], None
    if (found := keeper.found("job")) is not None:
        watch.go_on(found)
    with keeper.keeping("job", watch.level):
        for trained in train_for(module, prepared, spec, device, watch.listen, start, keeper):
            if distributed.rank() == 0:
                stops.append(finish(trained))
                target = trained.target
    if distributed.rank():
        raise distributed.HelperFinishedError
    last = stops[-1]
    several = spec.frontier is not None
    report = Report(
        job_id=labels.job_id,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        spec=spec,
        settings={**last.trained.settings, **_replayed(module)},
        model=model_info(source, module),
        data=_trained_on(prepared.info, target),
        layers=last.layers,
        left_out=list(chosen.left_out),
        density=last.density,
        quality=last.quality,
        size=last.size,
        operations=last.operations,
        latency=last.latency,
        frontier=[stop_row(stop, source.storage) for stop in stops] if several else [],
        target=target,
        curve=last.trained.curve,
        weights=last.weights,
        checks=last.checks,
        durations=watch.durations(*(stop.trained.durations for stop in stops)),
        environment=describe_environment(device, spec, labels.sandbox),
        warnings=[*warnings, *stop_warnings(stops), *keeper.warnings],
    )
    return PruneResult(
        model=last.model,
        masks=last.trained.masks,
        report=report,
        storage=source.storage,
        stops={stop.spec.one_density: stop.model for stop in stops} if several else {},
    )


def _replayed(module: OnnxModule) -> dict[str, str]:
    """On a GPU, whether its steps were launched as a whole."""
    return {} if module.replays is None else {"cuda_graphs": module.replays.said}


def _trained_on(data: DataInfo, target: TargetInfo | None) -> DataInfo:
    """The data as they were used: without the training rows that a search held back."""
    if target is None or target.asked.rows != "training":
        return data
    return data.model_copy(update={"train_rows": data.train_rows - target.rows})


def inspect(
    model: Path | str | onnx.ModelProto,
    data: Path | str | Mapping[str, np.ndarray] | None = None,
    spec: PruneSpec | Mapping[str, Any] | None = None,
    *,
    tokenizer: Path | None = None,
    datasets_dir: Path | None = None,
    labels: Labels | None = None,
    notes: Sequence[str] = (),
) -> Inspection:
    """What a job with this model, data and spec would find, in seconds; nothing is trained.

    Args:
        model: as for `prune`.
        data: as for `prune`; without them their fit is not checked.
        spec: as for `prune`, or its fields, of which `density` may be left out.
        tokenizer: as for `prune`.
        datasets_dir: as for `prune`.
        labels: names for the inspection.
        notes: warnings that the caller has already.

    Raises:
        ModelError: the model cannot be read at all. Everything else that is wrong is among its `problems`.
        SpecError: the spec is not valid.
    """
    labels = labels or Labels()
    asked = spec if isinstance(spec, PruneSpec) else parse_spec(with_density(spec or {}, STAND_IN))
    has_density = isinstance(spec, PruneSpec) or has_goal(spec or {})
    problems: list[PruneError] = []
    raw = None
    try:
        if data is not None:
            raw = _read_data(data, asked, tokenizer, datasets_dir, labels)
    except PruneError as error:
        if not knows_its_shapes(model, asked):
            raise
        problems.append(error)
    source = _read_model(model, raw, asked, labels)
    densities = asked.densities if has_density else ()
    return examine(source, asked, densities=densities, raw=raw, problems=problems, notes=notes)


def knows_its_shapes(model: Path | str | onnx.ModelProto, spec: PruneSpec) -> bool:
    """Whether a model can be read without data; TorchScript does not say what it takes."""
    if isinstance(model, onnx.ModelProto) or spec.input_specs is not None or not Path(model).is_file():
        return True
    return recognise(Path(model)) != "torchscript"


def _read_data(
    data: Path | str | Mapping[str, np.ndarray],
    spec: PruneSpec,
    tokenizer: Path | None,
    datasets_dir: Path | None,
    labels: Labels,
) -> RawData:
    if isinstance(data, Mapping):
        return data_from_arrays(
            data, name=labels.data_name or "arrays", tokenizer=tokenizer, max_length=spec.max_length
        )
    path, source = Path(data), labels.data_source
    name = labels.data_name or path.name
    if not path.is_file():
        name, source = str(data), "named"
        path = fetch(name, datasets_dir=datasets_dir, cache_dir=default_cache_dir())
    return read_data(path, spec, name=name, source=source, tokenizer=tokenizer)


def _read_model(
    model: Path | str | onnx.ModelProto, raw: RawData | None, spec: PruneSpec, labels: Labels
) -> SourceModel:
    if isinstance(model, onnx.ModelProto):
        return source_from_proto(model, filename=labels.model_filename or "model.onnx")
    if not Path(model).is_file():
        raise ModelError(f"{model}: there is no such file")
    return read_model(
        Path(model),
        filename=labels.model_filename,
        candidate_shapes=() if raw is None else candidate_shapes(raw),
        input_specs=spec.input_specs,
    )
