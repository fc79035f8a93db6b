"""What the child process says while it works: one JSON object a line on stdout. Light: no torch.

Polling, Server-Sent Events, the live progress bar and (later) webhooks all speak this one schema.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Stage = Literal["preparing", "baseline", "pruning", "finetuning", "exporting", "verifying"]


class Progress(BaseModel):
    """How far the run is. `fraction` is of the whole run, steps are training steps."""

    model_config = ConfigDict(frozen=True)

    fraction: float = Field(0.0, ge=0.0, le=1.0)
    step: int = 0
    total_steps: int = 0
    eta_seconds: float | None = None
    stop: int | None = Field(None, description="Which density of several is being trained for, from 1.")
    stops: int | None = Field(None, description="Densities in all; null where that is not known before.")
    target_density: float | None = Field(None, description="The density of this stop.")


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True)

    time: float = Field(default_factory=time.time, description="Seconds since the epoch.")


class StartedEvent(_Event):
    """The child lives; sent before anything heavy is imported."""

    type: Literal["started"] = "started"
    pid: int


class StageEvent(_Event):
    """The run has entered a stage."""

    type: Literal["stage"] = "stage"
    stage: Stage
    message: str = ""


class ProgressEvent(_Event):
    """A step of training was done; `metrics` has what is known of it: loss, density, accuracy."""

    type: Literal["progress"] = "progress"
    stage: Stage
    progress: Progress
    metrics: dict[str, float] = Field(default_factory=dict)


class WarningEvent(_Event):
    """Something the user should know; it is in the report too."""

    type: Literal["warning"] = "warning"
    message: str


class CheckpointEvent(_Event):
    """A checkpoint is complete: a run that finds these files in its folder goes on from there.

    A name stands for the same contents as long as the process lives. What the next one does not name is
    removed.
    """

    type: Literal["checkpoint"] = "checkpoint"
    files: list[str] = Field(description="Its files, relative to the folder; `checkpoint.json` is the last.")
    step: int = Field(description="Training steps that were done.")
    total_steps: int


class StoppedEvent(_Event):
    """The run ended because it was asked to (SIGTERM); it goes on from its last checkpoint. Always last."""

    type: Literal["stopped"] = "stopped"


class DoneEvent(_Event):
    """The run succeeded. Always the last event."""

    type: Literal["done"] = "done"
    density: float
    metrics: dict[str, Any] = Field(description="The report's `summary`: figures before and after.")
    outputs: list[str] = Field(description="Files in `out/`, relative to it.")


class ErrorEvent(_Event):
    """The run failed. Always the last event."""

    type: Literal["error"] = "error"
    code: str
    message: str
    param: str | None = None


class InspectedEvent(_Event):
    """A model was looked through; the last word of `python -m prune_engine inspect`, and of nothing else.

    Whether it can be pruned is in the inspection.
    """

    type: Literal["inspected"] = "inspected"
    prunable: bool
    outputs: list[str] = Field(description="Files in `out/`, relative to it.")


Event = Annotated[
    StartedEvent
    | StageEvent
    | ProgressEvent
    | WarningEvent
    | CheckpointEvent
    | StoppedEvent
    | DoneEvent
    | ErrorEvent,
    Field(discriminator="type"),
]
Told = StageEvent | ProgressEvent | WarningEvent | CheckpointEvent
"""What a run tells while it goes on."""
Listener = Callable[[Told], None]

_adapter: TypeAdapter[Event] = TypeAdapter(Event)


def parse_event(line: str | bytes) -> Event:
    """Read one line of the child's stdout.

    Raises:
        ValueError: the line is no event.
    """
    return _adapter.validate_json(line)


def silent(event: Told) -> None:
    """Listen to nothing."""
