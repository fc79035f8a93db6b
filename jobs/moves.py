"""The moves of a job's state machine as pure functions: a record in, the evolved record and its events out.

The store applies them atomically; here is what they mean. Every move of state is checked against
`jobs.record.TRANSITIONS` and says so in a `status` event, so that polling, Server-Sent Events and waiting
see the same. What a client may ask for is in `jobs.requests`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from jobs.errors import (
    InvalidTransitionError,
    NotCancellableError,
    NotDeletableError,
    NotRunningError,
    NotStartableError,
    StaleAttemptError,
)
from jobs.record import (
    ENDED,
    HELD,
    TRANSITIONS,
    Checkpoint,
    Job,
    JobError,
    JobResult,
    Lease,
    Status,
    now,
)
from jobs.webhooks.message import Message, messages_of
from prune_engine.events import Progress, Stage

Event = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What a move comes to: the new record, what to append, to count up, and to tell the job's webhook.

    `if_lapsed`: only when the job's lease has run out by the store's clock.
    """

    job: Job
    events: tuple[Event, ...] = ()
    totals: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    secret: str | None = None
    if_lapsed: bool = False


Move = Callable[[Job], Change]


def status_event(job: Job, reason: JobError | None = None) -> Event:
    """The event that tells of a job's (new) state, and why, where that is no matter of course."""
    event: Event = {"time": time.time(), "type": "status", "status": job.status.value}
    if reason is not None:
        event["reason"] = {"code": reason.code, "message": reason.message}
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


def start(owner: str) -> Move:
    """queued -> running under a lease; counts the attempt, whose number fences the writes of this run."""

    def move(job: Job) -> Change:
        allow(job, Status.RUNNING, NotStartableError)
        return moved(
            job,
            Status.RUNNING,
            started_at=job.started_at or now(),
            attempt=job.attempt + 1,
            lease=Lease(owner=owner),
        )

    return move


def note(event: Event) -> Move:
    """Something about a job that waits; nothing when it no longer does."""

    def move(job: Job) -> Change:
        return Change(job, (event,)) if job.status is Status.QUEUED else Change(job)

    return move


def update(
    stage: Stage | None, progress: Progress | None, events: tuple[Event, ...], attempt: int | None
) -> Move:
    """A running job has got further; no move of state."""

    def move(job: Job) -> Change:
        _fence(job, attempt)
        fields: dict[str, Any] = {}
        if stage is not None:
            fields["stage"] = stage
        if progress is not None:
            fields["progress"] = progress
        return Change(job.model_copy(update=fields), events)

    return move


def save(checkpoint: Checkpoint, attempt: int) -> Move:
    """A running job could go on from here; no move of state."""
    event: Event = {
        "time": time.time(),
        "type": "checkpoint",
        "step": checkpoint.step,
        "total_steps": checkpoint.total_steps,
    }

    def move(job: Job) -> Change:
        _fence(job, attempt)
        return Change(job.model_copy(update={"checkpoint": checkpoint}), (event,))

    return move


def succeed(result: JobResult, events: tuple[Event, ...], attempt: int | None) -> Move:
    """running (or pausing, or cancelling: it was too late) -> succeeded."""

    def move(job: Job) -> Change:
        _fence(job, attempt)
        progress = job.progress.model_copy(update={"fraction": 1.0, "eta_seconds": 0.0})
        return moved(
            job,
            Status.SUCCEEDED,
            events,
            "succeeded",
            finished_at=now(),
            result=result,
            progress=progress,
            checkpoint=None,
        )

    return move


def fail(error: JobError, events: tuple[Event, ...], attempt: int | None) -> Move:
    """queued, running, pausing or cancelling -> failed. A run can only fail the job that it holds."""

    def move(job: Job) -> Change:
        if attempt is not None:
            _fence(job, attempt)
        allow(job, Status.FAILED, NotRunningError)
        return moved(job, Status.FAILED, events, f"failed:{error.code}", finished_at=now(), error=error)

    return move


def cancelled(events: tuple[Event, ...], attempt: int | None) -> Move:
    """cancelling -> cancelled: the child has ended."""

    def move(job: Job) -> Change:
        _fence(job, attempt)
        if job.status is not Status.CANCELLING:
            raise NotCancellableError(f"{job.id} is {job.status}; nobody asked to cancel it")
        return moved(job, Status.CANCELLED, events, "cancelled", finished_at=now())

    return move


def give_back(
    why: JobError,
    *,
    most_failures: int | None,
    events: tuple[Event, ...] = (),
    attempt: int | None = None,
    if_lapsed: bool = False,
) -> Move:
    """The run ends without an end of the job: it waits for the next one, as its users wished meanwhile.

    running -> queued, pausing -> paused, cancelling -> cancelled; or failed with `why`.

    Args:
        why: what ended the run.
        most_failures: attempts that may fail before the job does; None: this end was an orderly one.
        events: what the run had still to say.
        attempt: the run's; None: somebody else writes.
        if_lapsed: only when the lease has run out.
    """

    def move(job: Job) -> Change:
        _fence(job, attempt)
        failures = job.failures + (most_failures is not None)
        if job.status is Status.CANCELLING:
            change = moved(job, Status.CANCELLED, events, "cancelled", finished_at=now(), reason=why)
        elif most_failures is not None and failures >= most_failures:
            times = "" if failures == 1 else f" ({failures} attempts were made)"
            error = why.model_copy(update={"message": why.message + times})
            change = moved(
                job,
                Status.FAILED,
                events,
                f"failed:{why.code}",
                finished_at=now(),
                error=error,
                failures=failures,
            )
        else:
            to = Status.PAUSED if job.status is Status.PAUSING else Status.QUEUED
            change = moved(
                job, to, events, f"given_back:{why.code}", stage=None, failures=failures, reason=why
            )
        return replace(change, if_lapsed=if_lapsed)

    return move


def mend() -> Move:
    """Write the record once more, so that it comes into every index; one that is held gets a lease."""

    def move(job: Job) -> Change:
        held = job.status in HELD and job.lease is None
        mended = job.model_copy(update={"lease": Lease(owner="unknown")}) if held else job
        return Change(mended, totals=("mended",))

    return move


def check_deletable(job: Job) -> None:
    """Let only ended jobs be deleted.

    Raises:
        NotDeletableError: the job has not ended.
    """
    if job.status not in ENDED:
        raise NotDeletableError(f"{job.id} is {job.status}; cancel it and delete it once it has ended")


def allow(job: Job, to: Status, error: type[InvalidTransitionError]) -> None:
    """Refuse what is not in the table of moves.

    Raises:
        InvalidTransitionError: as `error` says.
    """
    if to not in TRANSITIONS[job.status]:
        raise error(f"{job.id} is {job.status} and cannot become {to}")


def moved(
    job: Job,
    to: Status,
    events: tuple[Event, ...] = (),
    total: str | None = None,
    *,
    reason: JobError | None = None,
    **fields: Any,
) -> Change:
    """The job in another state, with what says so. Only a held job keeps its lease."""
    lease = {} if to in HELD else {"lease": None}
    after = job.model_copy(update={"status": to, **lease, **fields})
    return Change(
        after,
        (*events, status_event(after, reason)),
        (total,) if total else (),
        messages=messages_of(after),
    )


def _fence(job: Job, attempt: int | None) -> None:
    """Refuse the writes of a run that does not hold the job; None: the caller is no run."""
    if attempt is not None and attempt != job.attempt:
        raise StaleAttemptError(f"{job.id} is at attempt {job.attempt}; this write is of attempt {attempt}")
    if job.status not in HELD:
        raise NotRunningError(f"{job.id} is {job.status}; only a job that a worker has goes on or ends")
