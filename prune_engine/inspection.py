"""What can be said of a model before a job: `Inspection`, a versioned schema. Light: no torch, no onnx.

Everything in it was read off the file or measured in seconds; what could not be had is None, and the field
beside it says why. Times and memory are estimates, and say how they were come by.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from prune_engine.report import LeftOut, TensorInfo

SCHEMA_VERSION: Literal["1"] = "1"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Complaint(_Part):
    """Why the model (with this data and this spec) cannot be pruned; the job would fail with the same."""

    code: str
    message: str
    param: str | None = None


class OperatorSupport(_Part):
    """An operator of the graph, subgraphs included."""

    name: str
    domain: str = Field(description="`ai.onnx` for the standard operators.")
    opset: int
    count: int
    supported: bool
    reason: str | None = Field(None, description="Why it is not supported; null where it is.")
    nodes: tuple[str, ...] = Field((), description="The first nodes that are not supported.")


class WeightInfo(_Part):
    """A weight that will be pruned."""

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    count: int
    share: float = Field(description="Of all prunable weights.")
    outputs: int = Field(description="Output channels, neurons, or rows of an embedding.")
    nodes: tuple[str, ...] = Field(description="The nodes that use it as their weight.")
    zeros: int = Field(description="Values that are zero already.")

    @property
    def shared(self) -> bool:
        """Whether several nodes use it: they get one mask."""
        return len(self.nodes) > 1


class KeptInfo(_Part):
    """A float constant that pruning does not touch."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    count: int
    reason: str


class ParameterCount(_Part):
    """Elements of all trained constants (biases and normalisation included), and of the prunable weights."""

    total: int
    prunable: int


class DensityOutlook(_Part):
    """The densities that this model can have: whole numbers of weights, or of blocks."""

    granularity: str = Field("weight", description="As asked for: `weight`, `n:m` or `RxC`.")
    smallest: float = Field(
        description="No layer vanishes, and every output of the last one has a weight; of n:m the only one."
    )
    step: float = Field(description="One weight, or one block, more or less; 0: n:m has no other density.")
    requested: float | None = None
    kept: int | None = Field(None, description="Weights that the requested density keeps.")
    reached: float | None = Field(None, description="The density that a job will reach, exactly.")


class StepInfo(_Part):
    """A forward and backward pass in torch, measured on this machine."""

    rows: int = Field(description="Rows of the largest batch that was measured.")
    seconds: float = Field(description="It took so long.")
    seconds_per_row: float
    activation_bytes_per_row: int = Field(description="What the backward pass needs to be remembered.")
    threads: int


class MemoryEstimate(_Part):
    """Main memory that the job's process will need at its peak. Rough."""

    bytes: int
    libraries: int
    weights: int = Field(description="Weights, their copies, gradients, and the optimiser's state.")
    gates: int
    activations: int | None = Field(description="With their gradients; null where no step could be measured.")
    graph: int = Field(description="Copies of the file, and the sessions that measure it.")
    data: int | None = Field(description="The rows; null without data.")
    batch_size: int
    how: str


class TimeEstimate(_Part):
    """Time that the training will take on this machine. Rough: half and twice as much are both common."""

    seconds: float | None
    steps: int | None
    seconds_per_step: float | None
    epochs: int | None
    batch_size: int | None
    how: str = Field(description="How it was estimated, or why it could not be.")


class DataMatch(_Part):
    """The data, as far as a job would understand them with this model."""

    name: str
    kind: Literal["image", "table", "text", "tensors"]
    task: Literal["classification", "regression", "distillation"]
    classes: int | None
    train_rows: int
    holdout_rows: int
    holdout_source: str


class Inspection(_Part):
    """What a job would find; `inspection.json` is this model dumped."""

    schema_version: Literal["1"] = SCHEMA_VERSION
    created_at: str = Field(description="ISO 8601, UTC.")
    seconds: float = Field(description="How long the inspection took, without starting Python.")
    prunable: bool = Field(description="Whether a job can be done; `problems` says why not.")
    problems: list[Complaint]
    warnings: list[str]
    filename: str
    format: str = Field(description="`onnx`, `torchscript` or `pt2`.")
    route: str = Field(description="How it became ONNX: `as sent`, or the exporter that was used.")
    sha256: str
    bytes: int
    opsets: dict[str, int] = Field(description="Domain -> version; `ai.onnx` are the standard operators.")
    ir_version: int
    producer: str
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    operators: list[OperatorSupport]
    weights: list[WeightInfo]
    left_out: list[LeftOut] = Field(
        [], description="Weights that could be pruned and, as the spec is, will not be."
    )
    not_prunable: list[KeptInfo]
    parameters: ParameterCount
    density: DensityOutlook | None = Field(description="Null without prunable weights.")
    measured_with: dict[str, tuple[int, ...]] = Field(
        description="Input -> shape of the rows that were measured with; empty: nothing could be measured."
    )
    multiply_adds: int | None = Field(description="Of one row, dense; null: not known, see the warnings.")
    step: StepInfo | None
    memory: MemoryEstimate | None
    time: TimeEstimate
    data: DataMatch | None = Field(description="Null without data, or where they do not fit.")
