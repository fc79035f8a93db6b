"""What a client sees: the JSON of a job, of lists and of events. The record itself is in `jobs.record`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from jobs.record import (
    ENDED,
    DatasetRef,
    Job,
    JobError,
    ModelFile,
    Priority,
    Status,
    TokenizerFile,
    Webhook,
    WebhookEvent,
)
from jobs.webhooks.message import Attempt, Message, State
from prune_engine.events import Progress, Stage
from prune_engine.spec import PruneSpec


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class ArtifactView(_View):
    """A file that the job left."""

    name: str
    url: str = Field(description="Path to download it from.")
    bytes: int
    sha256: str


class ResultView(_View):
    """What the job came to."""

    density: float = Field(description="Density reached: kept over prunable weights.")
    metrics: dict[str, Any] = Field(description="The report's summary: figures before and after.")
    artifacts: list[ArtifactView]


class CheckpointView(_View):
    """Where the job would go on if its worker were gone."""

    step: int = Field(description="Training steps that are kept.")
    total_steps: int
    saved_at: datetime


class Links(_View):
    """Paths of what belongs to the job; null: not there (yet)."""

    self: str
    events: str
    cancel: str | None = Field(description="POST; null once the job has ended.")
    pause: str | None = Field(description="POST; null unless the job waits or runs.")
    resume: str | None = Field(description="POST; null unless the job is paused.")
    retry: str | None = Field(description="POST; null unless the job has failed or was cancelled.")
    model: str | None = Field(description="The pruned ONNX; null until the job has succeeded.")
    report: str | None = Field(description="The report; null until the job has succeeded.")


class WebhookView(_View):
    """Where the job's owner wants to be told of it."""

    url: str
    events: tuple[WebhookEvent, ...]
    secret: str | None = Field(
        None, description="What the messages are signed with: in the answer to `POST /jobs`, and never again."
    )
    deliveries: str = Field(description="Path of what has been sent.")


class JobView(_View):
    """A pruning job."""

    id: str
    object: Literal["job"] = "job"
    owner: str | None = Field(description="Id of the API key that it belongs to; null: made without one.")
    status: Status
    stage: Stage | None = Field(description="Where the job is inside `running`.")
    progress: Progress
    priority: Priority = Field(description="When it is taken, as against others that wait.")
    queue_position: int | None = Field(description="Jobs ahead of this one; null unless it is queued.")
    spec: PruneSpec = Field(description="What was asked, with every default.")
    model: ModelFile
    dataset: DatasetRef
    tokenizer: TokenizerFile | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempt: int = Field(description="How often a worker has started it.")
    checkpoint: CheckpointView | None = Field(description="Where it would go on; null where there is none.")
    error: JobError | None = Field(description="Why it failed.")
    result: ResultView | None = Field(description="What it came to; null until it has succeeded.")
    expires_at: datetime | None = Field(
        description="When it is deleted with its files; null: it has not ended, or is kept until then."
    )
    webhook: WebhookView | None
    links: Links


class JobList(_View):
    """A page of jobs, newest first."""

    object: Literal["list"] = "list"
    data: list[JobView]
    has_more: bool = Field(description="Whether there are more; ask with `after` = the last id of this page.")


class EventView(BaseModel):
    """Something that happened to a job; which other fields there are depends on `type`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str = Field(description="Sorts by time; `after` and Last-Event-ID take it.")
    type: str = Field(description="status, started, stage, progress, checkpoint, warning, done or error.")
    time: float = Field(description="Seconds since the epoch.")


class EventList(_View):
    """A page of events, oldest first."""

    object: Literal["list"] = "list"
    data: list[EventView]
    has_more: bool = Field(description="Whether there are more; ask with `after` = the last id of this page.")


class DeliveryLinks(_View):
    """Paths of what can be done with a delivery."""

    send: str = Field(description="POST; sends it again, now.")


class DeliveryView(_View):
    """A message of a job's webhook, and every attempt to deliver it."""

    id: str = Field(description="The receiver gets it as `webhook-id`; the same at every attempt.")
    object: Literal["delivery"] = "delivery"
    type: str = Field(description="What it tells: job.succeeded and so on.")
    status: State
    created_at: datetime
    next_attempt_at: datetime | None = Field(description="Null where nothing more is sent.")
    attempts: tuple[Attempt, ...]
    links: DeliveryLinks


class DeliveryList(_View):
    """All messages of a job's webhook, oldest first."""

    object: Literal["list"] = "list"
    data: list[DeliveryView]
    has_more: Literal[False] = False


class DatasetView(_View):
    """A data set that a job may name."""

    name: str
    title: str
    kind: str | None = Field(description="image, table, text or tensors; null where only the file knows.")
    task: str | None = Field(description="classification or regression; null where only the file knows.")
    classes: int | None
    rows: int | None = Field(description="Training and test rows together.")
    licence: str
    source: str
    available: bool = Field(description="Whether it is here; otherwise a worker fetches it first.")
    note: str


class DatasetList(_View):
    """The catalogue."""

    object: Literal["list"] = "list"
    data: list[DatasetView]
    has_more: Literal[False] = False


def job_path(job_id: str) -> str:
    """Where a job is."""
    return f"/jobs/{job_id}"


def view_of(
    job: Job, queue_position: int | None, expires_at: datetime | None = None, secret: str | None = None
) -> JobView:
    """The job as a client sees it. `secret`: its webhook's, where it may be seen."""
    here = job_path(job.id)
    succeeded = job.status is Status.SUCCEEDED
    result = None
    if job.result is not None:
        result = ResultView(
            density=job.result.density,
            metrics=job.result.metrics,
            artifacts=[
                ArtifactView(
                    name=file.name,
                    url=f"{here}/artifacts/{quote(file.name)}",
                    bytes=file.bytes,
                    sha256=file.sha256,
                )
                for file in job.result.artifacts
            ],
        )
    return JobView(
        id=job.id,
        owner=job.owner,
        status=job.status,
        stage=job.stage,
        progress=job.progress,
        priority=job.priority,
        queue_position=queue_position,
        spec=job.spec,
        model=job.model,
        dataset=job.dataset,
        tokenizer=job.tokenizer,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        attempt=job.attempt,
        checkpoint=_checkpoint_of(job),
        error=job.error,
        result=result,
        expires_at=expires_at,
        webhook=None if job.webhook is None else _webhook_view(job.webhook, here, secret),
        links=Links(
            self=here,
            events=f"{here}/events",
            cancel=None if job.status in ENDED else f"{here}/cancel",
            pause=f"{here}/pause" if job.status in (Status.QUEUED, Status.RUNNING) else None,
            resume=f"{here}/resume" if job.status is Status.PAUSED else None,
            retry=f"{here}/retry" if job.status in (Status.FAILED, Status.CANCELLED) else None,
            model=f"{here}/model" if succeeded else None,
            report=f"{here}/report" if succeeded else None,
        ),
    )


def _webhook_view(webhook: Webhook, job: str, secret: str | None) -> WebhookView:
    return WebhookView(
        url=webhook.url, events=webhook.events, secret=secret, deliveries=f"{job}/webhook/deliveries"
    )


def delivery_view(job_id: str, message: Message) -> DeliveryView:
    """A message of a job's webhook as a client sees it."""
    return DeliveryView(
        id=message.id,
        type=message.type,
        status=message.state,
        created_at=message.created_at,
        next_attempt_at=message.next_attempt_at,
        attempts=message.attempts,
        links=DeliveryLinks(send=f"{job_path(job_id)}/webhook/deliveries/{message.id}/send"),
    )


def _checkpoint_of(job: Job) -> CheckpointView | None:
    if (kept := job.checkpoint) is None:
        return None
    return CheckpointView(step=kept.step, total_steps=kept.total_steps, saved_at=kept.saved_at)


def event_view(event_id: str, event: Mapping[str, Any]) -> EventView:
    """A stored event as a client sees it."""
    return EventView.model_validate({**event, "id": event_id})
