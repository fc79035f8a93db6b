"""What was done: `Report`, a versioned schema. Light: no torch, no onnx.

Every figure in it was measured in the run that wrote it; a figure that could not be measured is None and
`warnings` says why.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from prune_engine.events import Stage
from prune_engine.goals import Target
from prune_engine.spec import Preprocess, PruneSpec

SCHEMA_VERSION: Literal["1"] = "1"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorInfo(_Part):
    """A graph input or output; a dimension is a number, a symbol or None (unknown)."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


class ModelInfo(_Part):
    """The model that was sent."""

    filename: str
    format: Literal["onnx", "torchscript", "pt2"]
    route: str = Field(description="How it became ONNX: `as sent`, or the exporter that was used.")
    sha256: str
    opset: int
    ir_version: int
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    operators: dict[str, int] = Field(description="Operator -> number of nodes.")
    parameters: int = Field(description="Elements of all trained initializers, biases and norms included.")
    prunable: int = Field(description="Elements of the prunable weights.")


class PreprocessCandidate(_Part):
    """A preprocessing that was tried on the dense model.

    `score` on training rows: accuracy in %, for numbers 100 R2 (the variance explained, in %; below 0: worse
    than the labels' mean). None: it did not run.
    """

    name: str
    score: float | None
    note: str = ""


class PreprocessInfo(_Part):
    """The preprocessing that was used and why."""

    name: str
    chosen: Preprocess
    why: str
    candidates: list[PreprocessCandidate] = []


class DataInfo(_Part):
    """The data that was trained on and measured with."""

    name: str
    source: Literal["named", "supplied", "memory"]
    kind: Literal["image", "table", "text", "tensors"]
    task: Literal["classification", "regression", "distillation"]
    train_rows: int
    holdout_rows: int
    holdout_source: str = Field(description="`test split`, or how the rows were held out.")
    classes: int | None = None
    preprocess: PreprocessInfo


class DensityInfo(_Part):
    """Kept over prunable weights, and over all parameters (biases and normalisation included)."""

    requested: float
    reached: float
    kept: int
    prunable: int
    nonzero_parameters: int
    parameters: int
    of_all_parameters: float


class LayerRow(_Part):
    """One prunable weight. `dead_outputs`: output channels, neurons or rows without a single kept weight.

    `units`: the weights, blocks or n:m groups that it is cut into. `least` and `most`: the densities between
    which `layer_density` holds it; None: it has no such bound.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    kept: int
    prunable: int
    density: float
    outputs: int
    dead_outputs: int
    units: int | None = None
    least: float | None = None
    most: float | None = None


class LeftOut(_Part):
    """A prunable weight without gates in this run: trained where weights are trained, never pruned."""

    name: str
    kind: str
    shape: tuple[int, ...]
    reason: str


class Metric(_Part):
    """The figure of merit. `unit`: `%` for accuracy and agreement, the label's unit for errors."""

    name: Literal["accuracy", "mae", "mse", "agreement", "relative_error"]
    unit: str
    higher_is_better: bool


class Quality(_Part):
    """A model measured on the held-out rows in onnxruntime."""

    value: float
    loss: float
    rows: int


class QualityInfo(_Part):
    """The figure of merit of the dense model, of the pruned one before fine-tuning, and of the result."""

    metric: Metric
    dense: Quality
    before_finetuning: Quality
    pruned: Quality


class SizeInfo(_Part):
    """Bytes of the ONNX file as it is and after gzip (level 6)."""

    before: int
    before_gzip: int
    after: int
    after_gzip: int


class OperationsInfo(_Part):
    """Multiply-adds of one row; `effective` counts only those with a kept weight. None: shape not known."""

    before: int | None
    effective: int | None


class LatencyRun(_Part):
    """Milliseconds an inference takes."""

    median_ms: float
    p10_ms: float
    p90_ms: float


class LatencyInfo(_Part):
    """onnxruntime latency, dense and pruned measured in turns in one process."""

    before: LatencyRun
    after: LatencyRun
    ratio: float = Field(description="Median over the runs of after / before.")
    batch: int
    threads: int
    runs: int
    provider: str
    sentence: str = Field(description="What zeros do and do not buy at run time, in plain words.")


class CurvePoint(_Part):
    """A point of the training curve; `value`: the metric of the model at this point, if measured."""

    step: int
    epoch: float
    stage: Stage
    loss: float
    density: float
    value: float | None = None


class Check(_Part):
    """One of the checks that gate success."""

    name: str
    passed: bool
    detail: str


class Histogram(_Part):
    """Values of the prunable weights: all before, the kept ones after. One edge more than counts."""

    edges: list[float]
    before: list[int]
    after: list[int]


class Environment(_Part):
    """Where and with what the run was done."""

    prunery: str
    python: str
    versions: dict[str, str]
    platform: str
    device: str
    threads: int
    seed: int
    sandbox: str | None = None


class FrontierStop(_Part):
    """One density of several: its model, what that cost and what it bought."""

    density: float = Field(description="As asked for.")
    reached: float
    kept: int
    value: float = Field(description="The metric on the held-out rows.")
    loss: float
    before_finetuning: float = Field(description="The metric at the moment the mask was fixed.")
    bytes: int
    gzip_bytes: int
    multiply_adds: int | None = Field(description="Those with a kept weight.")
    latency_ms: float
    latency_ratio: float = Field(description="Pruned over dense, measured in turns.")
    model: str = Field(description="The file among the job's artifacts.")

    def summary(self, metric: str) -> dict[str, Any]:
        """The row in a job's `result`."""
        figures = self.model_dump(include={"density", "loss", "bytes", "gzip_bytes", "multiply_adds"})
        return {**figures, metric: self.value, "latency_ms": self.latency_ms, "model": self.model}


class TriedDensity(_Part):
    """A density that the search for a target has tried."""

    density: float
    value: float = Field(description="The metric on the rows of the search.")
    within: bool = Field(description="Whether that meets the target.")
    steps: int = Field(description="Training steps that it was given.")
    whole: bool = Field(description="A whole training, not a short one on the way.")


class TargetInfo(_Part):
    """How the density was found: on rows that were held back for it, never on those that measure."""

    asked: Target
    met: bool = Field(description="Whether the result meets the target, on the rows of the search.")
    density: float = Field(description="The answer.")
    rows: int = Field(description="Rows that were held back for the search; `asked.rows` says of which.")
    dense: float = Field(description="The dense model's metric on those rows.")
    limit: float = Field(description="The worst metric that is still within.")
    value: float = Field(description="The result's metric on those rows.")
    tried: list[TriedDensity]


class Report(_Part):
    """The whole report; `report.json` is this model dumped."""

    schema_version: Literal["1"] = SCHEMA_VERSION
    job_id: str | None = None
    created_at: str = Field(description="ISO 8601, UTC.")
    spec: PruneSpec
    settings: dict[str, Any] = Field(description="Every hyperparameter as it was resolved from `auto`.")
    model: ModelInfo
    data: DataInfo
    density: DensityInfo
    layers: list[LayerRow]
    left_out: list[LeftOut] = []
    quality: QualityInfo
    size: SizeInfo
    operations: OperationsInfo
    latency: LatencyInfo | None
    frontier: list[FrontierStop] = Field(
        [], description="A row for each density, densest first; the rest of the report is of the sparsest."
    )
    target: TargetInfo | None = Field(None, description="The search, where a target was asked for.")
    curve: list[CurvePoint]
    weights: Histogram
    checks: list[Check]
    durations: dict[Annotated[str, "stage"], float] = Field(description="Seconds in each stage, and `total`.")
    environment: Environment
    warnings: list[str] = []

    def summary(self) -> dict[str, Any]:
        """The figures of a job's `result`: `{"before": {...}, "after": {...}}`.

        And `frontier`, a row for each density, or `target`, how the density was found, where they were asked
        for.
        """
        quality, latency = self.quality, self.latency
        goals: dict[str, Any] = {}
        if self.frontier:
            goals["frontier"] = [stop.summary(quality.metric.name) for stop in self.frontier]
        if self.target is not None:
            goals["target"] = self.target.model_dump(exclude={"asked", "tried"})
        return {
            "metric": quality.metric.name,
            "before": {
                quality.metric.name: quality.dense.value,
                "loss": quality.dense.loss,
                "bytes": self.size.before,
                "gzip_bytes": self.size.before_gzip,
                "multiply_adds": self.operations.before,
                "latency_ms": latency.before.median_ms if latency else None,
            },
            "after": {
                quality.metric.name: quality.pruned.value,
                "loss": quality.pruned.loss,
                "bytes": self.size.after,
                "gzip_bytes": self.size.after_gzip,
                "multiply_adds": self.operations.effective,
                "latency_ms": latency.after.median_ms if latency else None,
            },
            **goals,
        }
