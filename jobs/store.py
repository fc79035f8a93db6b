"""The store of jobs: the one place that talks to Redis or Valkey, for the worker (sync) and the API (async).

Every change goes the same way: read the record, let a move of `jobs.moves` say what becomes of it, and commit
it with one script that refuses when the record is no longer the one that was read (then: again). So a change
is atomic, the table of moves exists once, and a write repeated after a lost answer counts once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from jobs import moves, requests
from jobs.conditions import ANY, Conditions
from jobs.connection import availability, connect
from jobs.errors import JobNotFoundError
from jobs.layout import Call, Layout, StoredEvent, read_events, since
from jobs.record import ENDED, HELD, Checkpoint, Job, JobError, JobResult, Status
from jobs.replies import WAITAOF, check_created, committed, place_of
from jobs.settings import Settings
from prune_engine.events import Progress, Stage


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
        """How many jobs are taken before this one; None when it is not queued."""
        with availability():
            pipe = self._redis.pipeline(transaction=False)
            for gpu in (False, True):
                pipe.zrank(self._layout.waiting(gpu), job_id)
            return place_of(pipe.execute())

    def waiting(self, gpu: bool, limit: int) -> list[str]:
        """The first of the queued jobs that need a GPU, or that any worker may take."""
        with availability():
            return list(self._redis.zrange(self._layout.waiting(gpu), 0, limit - 1))

    def counts(self) -> dict[Status, int]:
        """How many jobs are in each state."""
        with availability():
            pipe = self._redis.pipeline(transaction=False)
            for status in Status:
                pipe.zcard(self._layout.status(status))
            return dict(zip(Status, pipe.execute(), strict=True))

    def start(self, job_id: str, worker_id: str = "", lease: float = 30.0) -> Job:
        """queued -> running, leased to `worker_id`. The record's `attempt` fences this run's writes.

        On the server's disk when this returns: no number of an attempt is given out twice.

        Args:
            job_id: the job.
            worker_id: who takes it.
            lease: seconds until it may be given to another, unless it is renewed.

        Raises:
            JobNotFoundError, NotStartableError.
        """
        return self._apply(job_id, moves.start(worker_id), lease=lease, durably=True)

    def renew(self, job: Job, lease: float) -> bool:
        """Renew the lease of a run; False when the job is no longer this run's."""
        with availability():
            return bool(self._eval(self._layout.renew(job, lease)))

    def lapsed(self) -> list[str]:
        """The ids of the jobs whose lease has run out."""
        with availability():
            return list(self._eval(self._layout.lapsed()))

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

    def note(self, job_id: str, event: moves.Event) -> None:
        """Append an event to the stream of a job that waits; nothing when it no longer does.

        Raises:
            JobNotFoundError.
        """
        self._apply(job_id, moves.note(event))

    def append_event(self, job_id: str, event: moves.Event, *, attempt: int | None = None) -> Job:
        """Append one event to a running job's stream. Raises as `update`."""
        return self.update(job_id, events=(event,), attempt=attempt)

    def save(self, job_id: str, checkpoint: Checkpoint) -> Job:
        """Note where the next run would go on. Raises as `update`."""
        return self._apply(job_id, moves.save(checkpoint, checkpoint.attempt))

    def give_back(
        self,
        job_id: str,
        why: JobError,
        *,
        most_failures: int | None = None,
        events: Iterable[moves.Event] = (),
        attempt: int | None = None,
    ) -> Job:
        """A run ends and the job does not: queued again, paused, cancelled, or failed (`moves.give_back`).

        Raises:
            JobNotFoundError, NotRunningError, StaleAttemptError.
        """
        move = moves.give_back(why, most_failures=most_failures, events=tuple(events), attempt=attempt)
        return self._apply(job_id, move, durably=True)

    def take_away(self, job_id: str, why: JobError, most_failures: int, *, at_once: bool = False) -> Job:
        """As `give_back`, of a job whose worker is gone; unchanged when its lease has not run out.

        Args:
            job_id: the job.
            why: what to say of it.
            most_failures: attempts that may fail before the job does.
            at_once: even if its lease has not run out.

        Raises:
            JobNotFoundError, NotRunningError.
        """
        return self._apply(job_id, moves.give_back(why, most_failures=most_failures, if_lapsed=not at_once))

    def succeed(
        self,
        job_id: str,
        result: JobResult,
        *,
        events: Iterable[moves.Event] = (),
        attempt: int | None = None,
    ) -> Job:
        """running (or pausing or cancelling, when it was too late) -> succeeded.

        Raises:
            JobNotFoundError, NotRunningError, StaleAttemptError.
        """
        return self._apply(job_id, moves.succeed(result, tuple(events), attempt), durably=True)

    def fail(
        self,
        job_id: str,
        error: JobError,
        *,
        events: Iterable[moves.Event] = (),
        attempt: int | None = None,
    ) -> Job:
        """queued, or held by a worker -> failed.

        Raises:
            JobNotFoundError, NotRunningError, StaleAttemptError.
        """
        return self._apply(job_id, moves.fail(error, tuple(events), attempt), durably=True)

    def request_cancel(self, job_id: str) -> Job:
        """queued or paused -> cancelled; running -> cancelling. A second request changes nothing.

        Raises:
            JobNotFoundError, NotCancellableError.
        """
        return self._apply(job_id, requests.cancel())

    def request_pause(self, job_id: str) -> Job:
        """queued -> paused; running -> pausing. A second request changes nothing.

        Raises:
            JobNotFoundError, NotPausableError.
        """
        return self._apply(job_id, requests.pause())

    def resume(self, job_id: str) -> Job:
        """paused -> queued; the caller rings.

        Raises:
            JobNotFoundError, NotResumableError.
        """
        return self._apply(job_id, requests.resume())

    def retry(self, job_id: str) -> Job:
        """failed or cancelled -> queued; the caller rings.

        Raises:
            JobNotFoundError, NotRetriableError.
        """
        return self._apply(job_id, requests.retry())

    def cancelled(
        self, job_id: str, *, events: Iterable[moves.Event] = (), attempt: int | None = None
    ) -> Job:
        """cancelling -> cancelled: the child has ended.

        Raises:
            JobNotFoundError, NotCancellableError, StaleAttemptError.
        """
        return self._apply(job_id, moves.cancelled(tuple(events), attempt), durably=True)

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

    def beat(self, worker_id: str, seconds: float, sandbox: str = "") -> None:
        """Worker `worker_id` lives, and counts as dead unless it says so again within `seconds`.

        `sandbox`: what its models run in.
        """
        with availability():
            if seconds > 0 and sandbox:
                self._redis.set(self._layout.sandbox(worker_id), sandbox, px=int(seconds * 1000))
            self._eval(self._layout.alive(worker_id, seconds))

    def leave(self, worker_id: str) -> None:
        """Worker `worker_id` stops."""
        self.beat(worker_id, 0.0)
        with availability():
            self._redis.delete(self._layout.sandbox(worker_id))

    def living_workers(self) -> list[str]:
        """The workers that said lately that they live."""
        with availability():
            return list(self._eval(self._layout.alive()))

    def forget_workers(self) -> None:
        """No worker lives: for the owner of a private server that has just started it."""
        with availability():
            self._redis.delete(self._layout.workers)

    def held(self) -> list[str]:
        """The ids of the jobs that a worker has, or had."""
        return [job_id for status in HELD for job_id in self.ids(status)]

    def mend(self) -> int:
        """Put jobs of an older Prunery where they belong: those that wait and those that run. How many."""
        with availability():
            known = {i for gpu in (False, True) for i in self._redis.zrange(self._layout.waiting(gpu), 0, -1)}
            leased = set(self._redis.zrange(self._layout.leases, 0, -1))
        astray = [*(set(self.ids(Status.QUEUED)) - known), *(set(self.held()) - leased)]
        for job_id in astray:
            self._apply(job_id, moves.mend(), lease=30.0)
        return len(astray)

    def totals(self) -> dict[str, int]:
        """Counts since the store began: `created`, `succeeded`, `cancelled`, `failed:<code>`."""
        with availability():
            return {name: int(count) for name, count in self._redis.hgetall(self._layout.totals).items()}

    def count(self, totals: Iterable[str]) -> None:
        """Count up figures that belong to no move; `name=5` counts up by five."""
        with availability():
            pipe = self._redis.pipeline(transaction=False)
            for total in totals:
                name, _, by = total.partition("=")
                pipe.hincrby(self._layout.totals, name, int(by or 1))
            pipe.execute()

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

    def _apply(self, job_id: str, move: moves.Move, *, lease: float = 0.0, durably: bool = False) -> Job:
        while True:
            raw, job = self._read(job_id)
            change = move(job)
            if change.job == job and not change.events and not change.totals:
                return job
            with availability():
                reply = self._commit(self._layout.commit(raw, job, change, lease=lease), durably)
            if reply[0] == "ok":
                return change.job
            if reply[0] == "held":
                return job

    def _commit(self, call: Call, durably: bool) -> Any:
        if not durably:
            return self._eval(call)
        pipe = self._redis.pipeline(transaction=False)
        pipe.eval(*call)
        pipe.execute_command(*WAITAOF)
        return committed(pipe.execute(raise_on_error=False))

    def _eval(self, call: Call) -> Any:
        return self._redis.eval(*call)
