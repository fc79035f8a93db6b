"""The moves of a job's state machine as pure functions: a record in, the evolved record and its events out.

The store applies them atomically; here is what they mean. Every move of state is checked against
`jobs.record.TRANSITIONS` and says so in a `status` event, so that polling, Server-Sent Events and waiting
see the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobs.errors import (
    InvalidTransitionError,
    NotCancellableError,
    NotDeletableError,
    NotRunningError,
    NotStartableError,
    StaleAttemptError,
)
from jobs.record import ENDED, TRANSITIONS, Job, JobError, JobResult, Status, now
from jobs.webhooks.message import Message, messages_of
from prune_engine.events import Progress, Stage

Event = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What a move comes to: the new record, what to append, to count up, and to tell the job's webhook."""

    job: Job
    events: tuple[Event, ...] = ()
    totals: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    secret: str | None = None


Move = Callable[[Job], Change]


def status_event(job: Job) -> Event:
    """The event that tells of a job's (new) state."""
    event: Event = {"time": time.time(), "type": "status", "status": job.status.value}
    if job.error is not None:
        event["error"] = job.error.model_dump(mode="json")
    if job.result is not None:
        event["density"] = job.result.density
    return event


def created(job: Job, secret: str | None = None) -> Change:
    """A new job: it must be queued. `secret` signs what its webhook is told."""
    if job.status is not Status.QUEUED:
        raise InvalidTransitionError(f"{job.id} is {job.status}; a new job must be queued")
    return Change(job, (status_event(job),), ("created",), secret=secret)


def start() -> Move:
    """queued -> running; counts the attempt, whose number fences the writes of this run."""

    def move(job: Job) -> Change:
        _allow(job, Status.RUNNING, NotStartableError)
        return _moved(job, Status.RUNNING, started_at=now(), attempt=job.attempt + 1)

    return move


def update(
    stage: Stage | None, progress: Progress | None, events: tuple[Event, ...], attempt: int | None
) -> Move:
    """A running job has got further; no move of state."""

    def move(job: Job) -> Change:
        _fence(job, attempt)
        if job.status not in (Status.RUNNING, Status.CANCELLING):
            raise NotRunningError(f"{job.id} is {job.status}; only a running job makes progress")
        fields: dict[str, Any] = {}
        if stage is not None:
            fields["stage"] = stage
        if progress is not None:
            fields["progress"] = progress
        return Change(job.model_copy(update=fields), events)

    return move


def succeed(result: JobResult, events: tuple[Event, ...], attempt: int | None) -> Move:
    """running or cancelling -> succeeded."""

    def move(job: Job) -> Change:
        _fence(job, attempt)
        _allow(job, Status.SUCCEEDED, NotRunningError)
        progress = job.progress.model_copy(update={"fraction": 1.0, "eta_seconds": 0.0})
        return _moved(
            job, Status.SUCCEEDED, events, "succeeded", finished_at=now(), result=result, progress=progress
        )

    return move


def fail(error: JobError, events: tuple[Event, ...], attempt: int | None) -> Move:
    """queued, running or cancelling -> failed."""

    def move(job: Job) -> Change:
        _fence(job, attempt)
        _allow(job, Status.FAILED, NotRunningError)
        return _moved(job, Status.FAILED, events, f"failed:{error.code}", finished_at=now(), error=error)

    return move


def request_cancel() -> Move:
    """queued -> cancelled at once; running -> cancelling, and the worker ends the child. Twice is once."""

    def move(job: Job) -> Change:
        if job.status in (Status.CANCELLING, Status.CANCELLED):
            return Change(job)
        if job.status is Status.QUEUED:
            return _moved(job, Status.CANCELLED, (), "cancelled", finished_at=now())
        _allow(job, Status.CANCELLING, NotCancellableError)
        return _moved(job, Status.CANCELLING)

    return move


def cancelled(events: tuple[Event, ...], attempt: int | None) -> Move:
    """cancelling -> cancelled: the child has ended."""

    def move(job: Job) -> Change:
        _fence(job, attempt)
        if job.status is not Status.CANCELLING:
            raise NotCancellableError(f"{job.id} is {job.status}; nobody asked to cancel it")
        return _moved(job, Status.CANCELLED, events, "cancelled", finished_at=now())

    return move


def check_deletable(job: Job) -> None:
    """Let only ended jobs be deleted.

    Raises:
        NotDeletableError: the job has not ended.
    """
    if job.status not in ENDED:
        raise NotDeletableError(f"{job.id} is {job.status}; cancel it and delete it once it has ended")


def _fence(job: Job, attempt: int | None) -> None:
    """Refuse the writes of a run that another run has replaced; None: the caller is no run."""
    if attempt is not None and attempt != job.attempt:
        raise StaleAttemptError(f"{job.id} is at attempt {job.attempt}; this write is of attempt {attempt}")


def _allow(job: Job, to: Status, error: type[InvalidTransitionError]) -> None:
    if to not in TRANSITIONS[job.status]:
        raise error(f"{job.id} is {job.status} and cannot become {to}")


def _moved(
    job: Job, to: Status, events: tuple[Event, ...] = (), total: str | None = None, **fields: Any
) -> Change:
    moved = job.model_copy(update={"status": to, **fields})
    return Change(
        moved, (*events, status_event(moved)), (total,) if total else (), messages=messages_of(moved)
    )
