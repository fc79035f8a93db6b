"""What a job is: the record that is the truth, and the states it moves through."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from prune_engine.events import Progress, Stage
from prune_engine.spec import PruneSpec


class Status(StrEnum):
    """The states of a job; the moves between them are in `TRANSITIONS`."""

    QUEUED = "queued"  # accepted, waiting for a worker
    RUNNING = "running"  # a worker has it; `stage` says what it does
    PAUSING = "pausing"  # a pause was asked for; the child writes a checkpoint and ends
    PAUSED = "paused"  # put aside until somebody asks for it to go on
    CANCELLING = "cancelling"  # a cancel was asked for and the child has not ended yet
    SUCCEEDED = "succeeded"  # the pruned model and the report are there
    FAILED = "failed"  # `error` says why
    CANCELLED = "cancelled"  # ended because somebody asked


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.PAUSED, Status.CANCELLED, Status.FAILED}),
    Status.RUNNING: frozenset(
        {Status.SUCCEEDED, Status.FAILED, Status.CANCELLING, Status.PAUSING, Status.QUEUED}
    ),
    Status.PAUSING: frozenset({Status.PAUSED, Status.SUCCEEDED, Status.FAILED, Status.CANCELLING}),
    Status.PAUSED: frozenset({Status.QUEUED, Status.CANCELLED}),
    Status.CANCELLING: frozenset({Status.CANCELLED, Status.FAILED, Status.SUCCEEDED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset({Status.QUEUED}),
    Status.CANCELLED: frozenset({Status.QUEUED}),
}
# Nobody works on the job and nobody will, unless a failed or cancelled one is asked for once more.
ENDED = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})
# A worker has the job, under a lease; only its run may write.
HELD = frozenset({Status.RUNNING, Status.PAUSING, Status.CANCELLING})

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")  # in the order in which they are taken


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class ModelFile(_Part):
    """The model as it was uploaded. `format` comes from magic bytes; the API never parses a model."""

    filename: str
    format: Literal["onnx", "torchscript", "pt2", "zip"]
    bytes: int
    sha256: str

    @property
    def input_name(self) -> str:
        """Its name in the folder that a child finds it in."""
        return "model.pt" if self.format == "torchscript" else f"model.{self.format}"


class DatasetRef(_Part):
    """The data: a name in the catalogue, or an uploaded file."""

    source: Literal["named", "supplied"]
    name: str = Field(description="Catalogue name, or the file's name.")
    format: Literal["npz", "zip", "csv", "parquet"] = "npz"
    bytes: int | None = None
    sha256: str | None = None


class TokenizerFile(_Part):
    """A tokenizer.json that was uploaded for text data."""

    filename: str
    bytes: int
    sha256: str


WebhookEvent = Literal["job.started", "job.paused", "job.succeeded", "job.failed", "job.cancelled"]
ENDS: tuple[WebhookEvent, ...] = ("job.succeeded", "job.failed", "job.cancelled")


class Webhook(_Part):
    """Where the job's owner wants to be told of it, and of what. The secret is not here: it is told once."""

    url: str
    events: tuple[WebhookEvent, ...] = Field(ENDS, min_length=1)


class JobError(_Part):
    """Why the job failed: a stable code, a sentence with what to do, and the parameter to blame."""

    code: str
    message: str
    param: str | None = None


class Artifact(_Part):
    """A file that the job left. `key`: where the artifact store has it; runs do not share keys."""

    name: str
    bytes: int
    sha256: str
    key: str | None = None


class CheckpointFile(_Part):
    """A file of a checkpoint, and where the artifact store has it."""

    name: str
    key: str
    bytes: int
    sha256: str


class Checkpoint(_Part):
    """Where the next run goes on: the files that an earlier one left, `checkpoint.json` last."""

    files: tuple[CheckpointFile, ...]
    step: int
    total_steps: int
    attempt: int
    saved_at: datetime


class Lease(_Part):
    """Who has the job. Its fencing token is the record's `attempt`; when it runs out, the store knows."""

    owner: str


class JobResult(_Part):
    """What the job came to: the density reached and the report's summary."""

    density: float
    metrics: dict[str, Any]
    artifacts: list[Artifact]


class Job(_Part):
    """One pruning job. Frozen: the store evolves it into a new one."""

    id: str
    owner: str | None = Field(None, description="The API key that it belongs to; None: made without one.")
    status: Status = Status.QUEUED
    stage: Stage | None = None
    progress: Progress = Progress()
    spec: PruneSpec
    model: ModelFile
    dataset: DatasetRef
    tokenizer: TokenizerFile | None = None
    priority: Priority = "normal"
    request_id: str | None = None  # of the request that sent it: finds its lines in every log
    traceparent: str | None = None  # its place in a trace, where traces are kept
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempt: int = 0  # counts every start and never goes back, so it can fence
    failures: int = 0  # attempts that were lost or crashed; orderly ends do not count
    lease: Lease | None = None
    checkpoint: Checkpoint | None = None
    error: JobError | None = None
    result: JobResult | None = None
    webhook: Webhook | None = None

    @property
    def stored_bytes(self) -> int:
        """Size of its files: what was sent and what came of it."""
        sent = self.model.bytes + (self.dataset.bytes or 0) + (self.tokenizer.bytes if self.tokenizer else 0)
        return sent + sum(file.bytes for file in (self.result.artifacts if self.result else ()))

    @property
    def needs_gpu(self) -> bool:
        """Whether only a worker with a GPU may take it."""
        return self.spec.device == "cuda"


def new_job_id() -> str:
    """A fresh id that sorts by time, to the microsecond, so that who came first is first in the queue.

    `job_`, 12 hex digits of milliseconds, 3 of the microseconds in them, 7 random ones.
    """
    milliseconds, microseconds = divmod(time.time_ns() // 1000, 1000)
    return f"job_{milliseconds:012x}{microseconds:03x}{secrets.token_hex(4)[:7]}"


def sent_at(job_id: str) -> float:
    """When the job of this id was sent, in seconds since 1970."""
    return int(job_id[4:16], 16) / 1000


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)
