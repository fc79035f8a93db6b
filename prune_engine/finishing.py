"""From a training that has ended to a file that can be handed out: exported, verified, measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime

from prune_engine.advice import about_length
from prune_engine.data.prepared import Prepared
from prune_engine.data.running import filled
from prune_engine.formats import OnnxModule, SourceModel, write_back
from prune_engine.formats.write_back import DENSITY, JOB, VERSION
from prune_engine.gates import Layout
from prune_engine.measure import measure_latency, measure_quality, measure_size, operations_info, session
from prune_engine.report import (
    Check,
    DensityInfo,
    Histogram,
    LatencyInfo,
    LayerRow,
    OperationsInfo,
    Quality,
    QualityInfo,
    SizeInfo,
)
from prune_engine.spec import PruneSpec
from prune_engine.stopwatch import Stopwatch
from prune_engine.summary import density_info, layer_rows, weight_histogram
from prune_engine.training import Trained, TrainingResult
from prune_engine.verify import verify

SAMPLE = 32


def sample_of(prepared: Prepared) -> dict[str, np.ndarray]:
    """The first held-out rows, as onnxruntime takes them, to compare outputs on."""
    fixed = prepared.fixed_batch
    return filled(prepared.holdout.feed(slice(0, fixed or SAMPLE)), fixed)


"""Held-out rows on which onnxruntime and the trained module must agree."""


@dataclass(frozen=True)
class Finished:
    """A pruned model that has passed every check, and what was counted and measured of it."""

    spec: PruneSpec
    model: onnx.ModelProto
    trained: TrainingResult
    density: DensityInfo
    layers: list[LayerRow]
    quality: QualityInfo
    size: SizeInfo
    operations: OperationsInfo
    latency: LatencyInfo
    weights: Histogram
    checks: list[Check]
    warnings: list[str]


@dataclass(frozen=True)
class Finish:
    """What a pruned model is held against.

    Attributes:
        source: the model as it was sent.
        dense: it in onnxruntime.
        dense_values: its weights by name.
        dense_quality: as it was measured.
        prepared: rows to measure with.
        layout: the gated weights.
        started: where no weight is trained, the file with the values that they all keep.
        job_id: for the file's metadata.
        watch: times and tells.
    """

    source: SourceModel
    dense: onnxruntime.InferenceSession
    dense_values: Mapping[str, np.ndarray]
    dense_quality: Quality
    prepared: Prepared
    layout: Layout
    started: onnx.ModelProto | None
    job_id: str | None
    watch: Stopwatch

    def __call__(self, trained: Trained) -> Finished:
        """Export, verify and measure what a training came to.

        Raises:
            VerificationError: the file fails a check.
        """
        module, result, density = trained.module, trained.result, trained.spec.one_density
        assert isinstance(module, OnnxModule)  # noqa: S101 - the importer makes no other
        original, prepared = self.source.proto, self.prepared
        with self.watch.stage("exporting", "writing the pruned values back into the graph"):
            module.round_as_stored()
            pruned = write_back(original, module.state_values(), self._properties(density))
            before_finetuning = write_back(original, result.before_finetuning)
        with self.watch.stage("verifying", "checking and measuring the result"):
            fixed, sample = prepared.fixed_batch, sample_of(prepared)
            checks, runtime = verify(
                original, pruned, module, result.masks, self.layout, density, sample, self.started
            )
            quality = QualityInfo(
                metric=prepared.metric,
                dense=self.dense_quality,
                before_finetuning=self._quality(session(before_finetuning)),
                pruned=self._quality(runtime),
            )
            feed = {name: rows[: fixed or 1] for name, rows in sample.items()}
            shapes = {name: value.shape for name, value in feed.items()}
            operations, unknown = operations_info(pruned, result.masks, shapes)
            latency = measure_latency(original, pruned, feed, granularity=self.layout.granularity)
        advice = about_length(trained.spec, result.settings, quality)
        for said in advice:
            self.watch.warn(said)
        return Finished(
            spec=trained.spec,
            model=pruned,
            trained=result,
            density=density_info(module, result.masks, density),
            layers=layer_rows(module, result.masks, self.layout),
            quality=quality,
            size=self._size(pruned),
            operations=operations,
            latency=latency,
            weights=weight_histogram(module, self.dense_values, result.masks),
            checks=checks,
            warnings=[*result.warnings, *([unknown] if unknown else []), *advice],
        )

    @cached_property
    def _sent_size(self) -> tuple[int, int]:
        """Of the model as it was sent: compressed once, however many densities there are."""
        return measure_size(self.source.proto, self.source.storage)

    def _quality(self, runtime: onnxruntime.InferenceSession) -> Quality:
        return measure_quality(runtime, self.prepared.holdout, self.prepared, self.dense)

    def _properties(self, density: float) -> dict[str, str]:
        """What the pruned file says about itself, in its `metadata_props`."""
        said = {DENSITY: str(density), VERSION: version("prunery")}
        return said if self.job_id is None else {**said, JOB: self.job_id}

    def _size(self, pruned: onnx.ModelProto) -> SizeInfo:
        before, before_gzip = self._sent_size
        after, after_gzip = measure_size(pruned, self.source.storage)
        return SizeInfo(before=before, before_gzip=before_gzip, after=after, after_gzip=after_gzip)
