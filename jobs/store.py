"""The store of jobs: the one place that talks to Redis or Valkey, for the worker (sync) and the API (async).

Every change goes the same way: read the record, let a move of `jobs.moves` say what becomes of it, and commit
it with one script that refuses when the record is no longer the one that was read (then: again). So a change
is atomic, the table of moves exists once, and a write repeated after a lost answer counts once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

from redis.exceptions import ResponseError

from jobs import moves
from jobs.conditions import ANY, Conditions
from jobs.connection import availability, connect
from jobs.errors import (
    ActiveJobsExceededError,
    IdempotencyKeyInUseError,
    JobExistsError,
    JobNotFoundError,
    StoreUnavailableError,
)
from jobs.layout import Call, Layout, StoredEvent, read_events, since
from jobs.record import ENDED, Job, JobError, JobResult, Status
from jobs.settings import Settings
from prune_engine.events import Progress, Stage

log = logging.getLogger(__name__)
WAITAOF = ("WAITAOF", 1, 0, 10_000)


class JobStore:
    """The store for synchronous callers. Thread-safe.

    Every method raises StoreUnavailableError when the server does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._redis = connect(settings.require_redis_url())
        self._layout = Layout(settings.redis_prefix, settings.events_per_job)

    def create(self, job: Job, conditions: Conditions = ANY, *, secret: str | None = None) -> None:
        """Add a queued job; it is on the server's disk when this returns. `secret` is its webhook's.

        Raises:
            JobExistsError: the id is taken.
            ActiveJobsExceededError, IdempotencyKeyInUseError: a condition does not hold.
        """
        with availability():
            pipe = self._redis.pipeline(transaction=False)
            pipe.eval(*self._layout.commit("", None, moves.created(job, secret), conditions=conditions))
            pipe.execute_command(*WAITAOF)
            check_created(job, pipe.execute(raise_on_error=False), conditions)

    def get(self, job_id: str) -> Job:
        """The job.

        Raises:
            JobNotFoundError: there is none.
        """
        return self._read(job_id)[1]

    def page(
        self,
        limit: int,
        after: str | None = None,
        status: Status | None = None,
        owner: str | None = None,
    ) -> tuple[list[Job], bool]:
        """Jobs, newest first, of `owner` or everybody's, after the id `after`; and whether there are more."""
        with availability():
            top = f"({after}" if after else "+"
            ids = self._redis.zrevrangebylex(self._layout.index(status, owner), top, "-", 0, limit + 1)
            raws = self._redis.mget([self._layout.record(i) for i in ids[:limit]]) if ids else []
        return [Job.model_validate_json(raw) for raw in raws if raw], len(ids) > limit

    def ids(self, status: Status) -> list[str]:
        """The ids of all jobs in a state, oldest first."""
        with availability():
            return list(self._redis.zrange(self._layout.status(status), 0, -1))

    def queue_position(self, job_id: str) -> int | None:
        """How many queued jobs are older; None when the job is not queued."""
        with availability():
            rank: int | None = self._redis.zrank(self._layout.status(Status.QUEUED), job_id)
            return rank

    def counts(self) -> dict[Status, int]:
        """How many jobs are in each state."""
        with availability():
            pipe = self._redis.pipeline(transaction=False)
            for status in Status:
                pipe.zcard(self._layout.status(status))
            return dict(zip(Status, pipe.execute(), strict=True))

    def start(self, job_id: str, worker_id: str = "") -> Job:
        """queued -> running, owned by `worker_id`. The record's `attempt` fences this run's writes.

        Raises:
            JobNotFoundError, NotStartableError.
        """
        return self._apply(job_id, moves.start(), owner=worker_id)

    def update(
        self,
        job_id: str,
        stage: Stage | None = None,
        progress: Progress | None = None,
        *,
        events: Iterable[moves.Event] = (),
        attempt: int | None = None,
    ) -> Job:
        """Note how far a running job is, and append `events`; the status returned may be `cancelling`.

        Raises:
            JobNotFoundError, NotRunningError, StaleAttemptError.
        """
        return self._apply(job_id, moves.update(stage, progress, tuple(events), attempt))

    def append_event(self, job_id: str, event: moves.Event, *, attempt: int | None = None) -> Job:
        """Append one event to a running job's stream. Raises as `update`."""
        return self.update(job_id, events=(event,), attempt=attempt)

    def succeed(
        self,
        job_id: str,
        result: JobResult,
        *,
        events: Iterable[moves.Event] = (),
        attempt: int | None = None,
    ) -> Job:
        """running (or cancelling, when it was too late) -> succeeded.

        Raises:
            JobNotFoundError, NotRunningError, StaleAttemptError.
        """
        return self._apply(job_id, moves.succeed(result, tuple(events), attempt))

    def fail(
        self,
        job_id: str,
        error: JobError,
        *,
        events: Iterable[moves.Event] = (),
        attempt: int | None = None,
    ) -> Job:
        """queued, running or cancelling -> failed.

        Raises:
            JobNotFoundError, NotRunningError, StaleAttemptError.
        """
        return self._apply(job_id, moves.fail(error, tuple(events), attempt))

    def request_cancel(self, job_id: str) -> Job:
        """queued -> cancelled; running -> cancelling. A second request changes nothing.

        Raises:
            JobNotFoundError, NotCancellableError.
        """
        return self._apply(job_id, moves.request_cancel())

    def cancelled(
        self, job_id: str, *, events: Iterable[moves.Event] = (), attempt: int | None = None
    ) -> Job:
        """cancelling -> cancelled: the child has ended.

        Raises:
            JobNotFoundError, NotCancellableError, StaleAttemptError.
        """
        return self._apply(job_id, moves.cancelled(tuple(events), attempt))

    def delete(self, job_id: str) -> bool:
        """Forget an ended job and its events; False when there was none.

        Raises:
            NotDeletableError: the job has not ended.
        """
        with availability():
            while (raw := self._redis.get(self._layout.record(job_id))) is not None:
                job = Job.model_validate_json(raw)
                moves.check_deletable(job)
                if self._eval(self._layout.delete(raw, job)):
                    return True
        return False

    def events(self, job_id: str, after: str | None = None, limit: int = 1000) -> list[StoredEvent]:
        """The job's events after the event `after`, oldest first.

        Raises:
            JobNotFoundError, EventIdError.
        """
        with availability():
            pipe = self._redis.pipeline(transaction=False)
            pipe.exists(self._layout.record(job_id))
            pipe.xrange(self._layout.events(job_id), since(after), "+", limit)
            exists, entries = pipe.execute()
        if not exists:
            raise JobNotFoundError(job_id)
        return read_events(entries)

    def wait_for_change(self, job_id: str, seconds: float, *, seen: Job | None = None) -> Job:
        """The job as soon as it differs from `seen` (default: from now), at the latest after `seconds`.

        Looks ten times a second: for scripts and tests. The API's store is woken instead.
        """
        until = time.monotonic() + seconds
        job = self.get(job_id)
        seen = seen or job
        while job == seen and job.status not in ENDED and time.monotonic() < until:
            time.sleep(min(0.1, max(0.0, until - time.monotonic())))
            job = self.get(job_id)
        return job

    def beat(self, worker_id: str, seconds: float) -> None:
        """Worker `worker_id` lives, and counts as dead unless it says so again within `seconds`."""
        with availability():
            self._eval(self._layout.alive(worker_id, seconds))

    def leave(self, worker_id: str) -> None:
        """Worker `worker_id` stops."""
        self.beat(worker_id, 0.0)

    def living_workers(self) -> list[str]:
        """The workers that said lately that they live."""
        with availability():
            return list(self._eval(self._layout.alive()))

    def forget_workers(self) -> None:
        """No worker lives: for the owner of a private server that has just started it."""
        with availability():
            self._redis.delete(self._layout.workers)

    def orphans(self) -> list[Job]:
        """Jobs that a worker took and that no living worker has."""
        ids = [*self.ids(Status.RUNNING), *self.ids(Status.CANCELLING)]
        if not ids:
            return []
        with availability():
            owners = self._redis.hmget(self._layout.owners, ids)
        living = set(self.living_workers())
        return [self.get(i) for i, owner in zip(ids, owners, strict=True) if owner not in living]

    def totals(self) -> dict[str, int]:
        """Counts since the store began: `created`, `succeeded`, `cancelled`, `failed:<code>`."""
        with availability():
            return {name: int(count) for name, count in self._redis.hgetall(self._layout.totals).items()}

    def ping(self) -> None:
        """Return when the server answers."""
        with availability():
            self._redis.ping()

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _read(self, job_id: str) -> tuple[str, Job]:
        with availability():
            raw = self._redis.get(self._layout.record(job_id))
        if raw is None:
            raise JobNotFoundError(job_id)
        return raw, Job.model_validate_json(raw)

    def _apply(self, job_id: str, move: moves.Move, owner: str | None = None) -> Job:
        while True:
            raw, job = self._read(job_id)
            change = move(job)
            if change.job == job and not change.events:
                return job
            with availability():
                reply = self._eval(self._layout.commit(raw, job, change, owner))
            if reply[0] == "ok":
                return change.job

    def _eval(self, call: Call) -> Any:
        return self._redis.eval(*call)


def check_conditions(reply: str, conditions: Conditions) -> None:
    """Look at whether the conditions of a change did hold.

    Raises:
        ActiveJobsExceededError, IdempotencyKeyInUseError: one does not.
    """
    if reply == "full":
        raise ActiveJobsExceededError(
            f"{conditions.active_jobs} jobs of this key have not ended, which is all that it may have; "
            "wait for one to end, or cancel one"
        )
    if reply == "unclaimed":
        raise IdempotencyKeyInUseError(
            "this request took so long that another one with its Idempotency-Key began; send it again for "
            "that one's job"
        )


def check_created(job: Job, replies: list[Any], conditions: Conditions) -> None:
    """Look at what creating a job came to.

    Raises:
        JobExistsError: the id is taken.
        ActiveJobsExceededError, IdempotencyKeyInUseError: a condition does not hold.
        StoreUnavailableError: the record did not reach the disk in time.
    """
    commit, on_disk = replies
    if isinstance(commit, Exception):
        raise commit
    check_conditions(commit[0], conditions)
    if commit[0] != "ok":
        raise JobExistsError(f"there is a job '{job.id}' already", param="job_id")
    if isinstance(on_disk, ResponseError):
        # A server older than 7.2, or one without an append-only file: its own settings decide.
        log.warning("the store cannot say when a record is on disk (%s)", on_disk)
    elif isinstance(on_disk, Exception):
        raise on_disk
    elif on_disk[0] < 1:
        raise StoreUnavailableError("the store could not write the job to its disk within 10 s; try again")
