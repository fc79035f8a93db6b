"""The store of jobs for the API: the verbs of `jobs.store.JobStore`, awaited."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

from jobs import moves, requests
from jobs.changes import Changes
from jobs.conditions import ANY, Conditions
from jobs.connection import availability, connect_async
from jobs.errors import JobNotFoundError
from jobs.layout import Call, Layout, StoredEvent, read_events, since
from jobs.record import ENDED, PRIORITIES, Job, JobError, Priority, Status
from jobs.replies import WAITAOF, check_conditions, check_created, committed, place_of
from jobs.settings import Settings

_CONNECTIONS = 32  # busy at one time: a command takes well under a millisecond
_PAGE = 500


class AsyncJobStore:
    """The store of one event loop. Waiting clients share one connection (`jobs.changes`).

    Every method raises StoreUnavailableError when the server does not answer; otherwise as in `JobStore`.
    """

    def __init__(self, settings: Settings) -> None:
        # One more for the ear, which keeps its connection.
        self._redis = connect_async(settings.require_redis_url(), _CONNECTIONS + 1)
        # A connection is kept until the disk has the record: the others are for those who only ask.
        self._creating = asyncio.Semaphore(_CONNECTIONS // 2)
        self._layout = Layout(settings.redis_prefix, settings.events_per_job)
        self._changes = Changes(self._redis, self._layout.channel)

    async def create(self, job: Job, conditions: Conditions = ANY, *, secret: str | None = None) -> None:
        """Add a queued job; it is on the server's disk when this returns. `secret` is its webhook's."""
        async with self._creating:
            with availability():
                pipe = self._redis.pipeline(transaction=False)
                pipe.eval(*self._layout.commit("", None, moves.created(job, secret), conditions=conditions))
                pipe.execute_command(*WAITAOF)
                check_created(job, await pipe.execute(raise_on_error=False), conditions)

    async def get(self, job_id: str) -> Job:
        """The job."""
        return (await self._read(job_id))[1]

    async def records(self, job_ids: Iterable[str]) -> list[str | None]:
        """The records of several jobs as JSON in one round trip; None where there is no such job."""
        with availability():
            return list(await self._redis.mget([self._layout.record(job_id) for job_id in job_ids]))

    async def page(
        self,
        limit: int,
        after: str | None = None,
        status: Status | None = None,
        owner: str | None = None,
    ) -> tuple[list[Job], bool]:
        """Jobs, newest first, of `owner` or everybody's, after the id `after`; and whether there are more."""
        with availability():
            index, top = self._layout.index(status, owner), f"({after}" if after else "+"
            ids = await self._redis.zrevrangebylex(index, top, "-", 0, limit + 1)
            raws = await self._redis.mget([self._layout.record(i) for i in ids[:limit]]) if ids else []
        return [Job.model_validate_json(raw) for raw in raws if raw], len(ids) > limit

    async def queue_position(self, job_id: str) -> int | None:
        """How many jobs are taken before this one; None when it is not queued."""
        return (await self.queue_positions([job_id]))[0]

    async def queue_positions(self, job_ids: Iterable[str]) -> list[int | None]:
        """`queue_position` of several jobs in one round trip."""
        with availability():
            pipe = self._redis.pipeline(transaction=False)
            for job_id in job_ids:
                for gpu in (False, True):
                    pipe.zrank(self._layout.waiting(gpu), job_id)
            ranks = await pipe.execute()
            return [place_of(ranks[i : i + 2]) for i in range(0, len(ranks), 2)]

    async def counts(self) -> dict[Status, int]:
        """How many jobs are in each state."""
        with availability():
            pipe = self._redis.pipeline(transaction=False)
            for status in Status:
                pipe.zcard(self._layout.status(status))
            return dict(zip(Status, await pipe.execute(), strict=True))

    async def waiting_counts(self) -> dict[tuple[bool, Priority], int]:
        """How many jobs wait, by whether they need a GPU and by priority."""
        kinds = [(gpu, priority) for gpu in (False, True) for priority in PRIORITIES]
        with availability():
            pipe = self._redis.pipeline(transaction=False)
            for gpu, priority in kinds:
                place = PRIORITIES.index(priority)
                pipe.zcount(self._layout.waiting(gpu), place, place)
            return dict(zip(kinds, await pipe.execute(), strict=True))

    async def oldest_queued(self) -> str | None:
        """The id of the queued job that was sent first."""
        with availability():
            ids = await self._redis.zrange(self._layout.status(Status.QUEUED), 0, 0)
        return ids[0] if ids else None

    async def fail(self, job_id: str, error: JobError) -> Job:
        """queued, or held by a worker -> failed."""
        return await self._apply(job_id, moves.fail(error, (), None))

    async def request_cancel(self, job_id: str) -> Job:
        """queued or paused -> cancelled; running -> cancelling. A second request changes nothing."""
        return await self._apply(job_id, requests.cancel())

    async def request_pause(self, job_id: str) -> Job:
        """queued -> paused; running -> pausing. A second request changes nothing."""
        return await self._apply(job_id, requests.pause())

    async def resume(self, job_id: str) -> Job:
        """paused -> queued; the caller rings."""
        return await self._apply(job_id, requests.resume())

    async def retry(self, job_id: str, conditions: Conditions = ANY) -> Job:
        """failed or cancelled -> queued, where `conditions` hold; the caller rings."""
        return await self._apply(job_id, requests.retry(), conditions)

    async def delete(self, job_id: str) -> bool:
        """Forget an ended job and its events; False when there was none."""
        with availability():
            while (raw := await self._redis.get(self._layout.record(job_id))) is not None:
                job = Job.model_validate_json(raw)
                moves.check_deletable(job)
                if await self._eval(self._layout.delete(raw, job)):
                    return True
        return False

    async def events(self, job_id: str, after: str | None = None, limit: int = 1000) -> list[StoredEvent]:
        """The job's events after the event `after`, oldest first."""
        with availability():
            pipe = self._redis.pipeline(transaction=False)
            pipe.exists(self._layout.record(job_id))
            pipe.xrange(self._layout.events(job_id), since(after), "+", limit)
            exists, entries = await pipe.execute()
        if not exists:
            raise JobNotFoundError(job_id)
        return read_events(entries)

    async def follow(
        self, job_id: str, after: str | None = None, block: float = 15.0
    ) -> AsyncIterator[StoredEvent]:
        """The job's events after the event `after`, then each as it comes, until the job has ended.

        Looks again at least every `block` seconds, should a call have been lost. Raises JobNotFoundError when
        there is no such job, or no longer.
        """
        async with self._changes.watch(job_id) as bell:
            ended = (await self.get(job_id)).status in ENDED
            while True:
                bell.clear()
                batch = await self.events(job_id, after, _PAGE)
                for stored in batch:
                    after = stored.id
                    yield stored
                if len(batch) == _PAGE:
                    continue
                if ended:
                    return
                # An end need not be the last one: a failed job may be tried once more.
                if (batch and batch[-1].is_end) or not await _rung(bell, block):
                    ended = (await self.get(job_id)).status in ENDED

    async def wait_for_change(self, job_id: str, seconds: float, *, seen: Job | None = None) -> Job:
        """The job as soon as it differs from `seen` (default: from now), at the latest after `seconds`.

        An ended job is returned at once.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        async with self._changes.watch(job_id) as bell:
            job = await self.get(job_id)
            seen = seen or job
            while job == seen and job.status not in ENDED:
                if not await _rung(bell, until - loop.time()):
                    return job
                bell.clear()
                job = await self.get(job_id)
            return job

    async def waiting(self, gpu: bool, limit: int) -> list[str]:
        """The first of the queued jobs that need a GPU, or that any worker may take."""
        with availability():
            return list(await self._redis.zrange(self._layout.waiting(gpu), 0, limit - 1))

    async def living_workers(self) -> list[str]:
        """The workers that said lately that they live."""
        with availability():
            return list(await self._eval(self._layout.alive()))

    async def sandboxes(self, worker_ids: Iterable[str]) -> list[str | None]:
        """What the models of each of these workers run in; None where it did not say."""
        keys = [self._layout.sandbox(worker_id) for worker_id in worker_ids]
        with availability():
            return list(await self._redis.mget(keys)) if keys else []

    async def totals(self) -> dict[str, int]:
        """Counts since the store began: `created`, `succeeded`, `cancelled`, `failed:<code>`."""
        with availability():
            totals = await self._redis.hgetall(self._layout.totals)
            return {name: int(count) for name, count in totals.items()}

    async def counters(self) -> dict[str, int]:
        """What has been counted beside the outcomes of jobs, such as `webhook:delivered`."""
        with availability():
            found = await self._redis.hgetall(self._layout.counters)
            return {name: int(count) for name, count in found.items()}

    async def ping(self) -> None:
        """Return when the server answers."""
        with availability():
            await self._redis.ping()

    async def close(self) -> None:
        """Stop listening and close the connections."""
        await self._changes.close()
        await self._redis.aclose()

    async def _read(self, job_id: str) -> tuple[str, Job]:
        with availability():
            raw = await self._redis.get(self._layout.record(job_id))
        if raw is None:
            raise JobNotFoundError(job_id)
        return raw, Job.model_validate_json(raw)

    async def _apply(self, job_id: str, move: moves.Move, conditions: Conditions = ANY) -> Job:
        while True:
            raw, job = await self._read(job_id)
            change = move(job)
            if change.job == job and not change.events:
                return job
            with availability():
                # What a client was told is done must survive the server's end.
                pipe = self._redis.pipeline(transaction=False)
                pipe.eval(*self._layout.commit(raw, job, change, conditions))
                pipe.execute_command(*WAITAOF)
                reply = committed(await pipe.execute(raise_on_error=False))
            check_conditions(reply[0], conditions)
            if reply[0] == "ok":
                return change.job

    async def _eval(self, call: Call) -> Any:
        return await self._redis.eval(*call)


async def _rung(bell: asyncio.Event, seconds: float) -> bool:
    """Whether the bell rang within `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await bell.wait()
    return bell.is_set()
