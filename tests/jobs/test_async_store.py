from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from jobs.async_store import AsyncJobStore
from jobs.errors import JobExistsError, JobNotFoundError
from jobs.record import JobResult, Status
from jobs.settings import Settings
from jobs.store import JobStore
from tests.stores import a_job

RESULT = JobResult(density=0.1, metrics={}, artifacts=[])


def run(settings: Settings, test: Callable[[AsyncJobStore], Awaitable[None]]) -> None:
    async def with_store() -> None:
        store = AsyncJobStore(settings)
        try:
            await test(store)
        finally:
            await store.close()

    asyncio.run(with_store())


def test_it_agrees_with_the_synchronous_store(settings: Settings, store: JobStore) -> None:
    async def test(async_store: AsyncJobStore) -> None:
        jobs = [a_job(id=f"job_{n}") for n in range(3)]
        for job in jobs:
            await async_store.create(job)
        with pytest.raises(JobExistsError):
            await async_store.create(a_job(id="job_0"))
        assert await async_store.get("job_1") == store.get("job_1") == jobs[1]
        assert await async_store.page(2) == store.page(2)
        assert await async_store.queue_positions(["job_2", "job_0", "job_x"]) == [2, 0, None]
        assert await async_store.counts() == store.counts()
        assert await async_store.events("job_0") == store.events("job_0")
        assert (await async_store.request_cancel("job_0")).status is Status.CANCELLED
        assert await async_store.delete("job_0")
        assert not await async_store.delete("job_0")
        store.beat("worker-1", 10)
        assert await async_store.living_workers() == ["worker-1"]
        assert await async_store.totals() == store.totals()
        await async_store.ping()
        with pytest.raises(JobNotFoundError):
            await async_store.get("job_0")

    run(settings, test)


def test_waiting_ends_when_the_job_changes(settings: Settings, store: JobStore) -> None:
    job = a_job()
    store.create(job)

    async def test(async_store: AsyncJobStore) -> None:
        waiting = asyncio.create_task(async_store.wait_for_change(job.id, 20))
        await asyncio.sleep(0.2)
        began = time.monotonic()
        await asyncio.to_thread(store.start, job.id)
        assert (await waiting).status is Status.RUNNING
        assert time.monotonic() - began < 2  # at once, not when the wait of 20 s is over

    run(settings, test)


def test_waiting_ends_in_time_when_nothing_changes(settings: Settings, store: JobStore) -> None:
    job = a_job()
    store.create(job)

    async def test(async_store: AsyncJobStore) -> None:
        began = time.monotonic()
        assert await async_store.wait_for_change(job.id, 0.3) == job
        assert 0.3 <= time.monotonic() - began < 2

    run(settings, test)


def test_waiting_for_what_has_happened_already_ends_at_once(settings: Settings, store: JobStore) -> None:
    job = a_job()
    store.create(job)
    store.start(job.id)

    async def test(async_store: AsyncJobStore) -> None:
        began = time.monotonic()
        assert (await async_store.wait_for_change(job.id, 20, seen=job)).status is Status.RUNNING
        await asyncio.to_thread(store.succeed, job.id, RESULT)
        assert (await async_store.wait_for_change(job.id, 20)).status is Status.SUCCEEDED
        assert time.monotonic() - began < 2

    run(settings, test)


def test_waiting_for_a_deleted_job_says_so(settings: Settings, store: JobStore) -> None:
    job = a_job()
    store.create(job)

    async def test(async_store: AsyncJobStore) -> None:
        waiting = asyncio.create_task(async_store.wait_for_change(job.id, 20, seen=job))
        await asyncio.sleep(0.1)

        def away() -> None:
            store.request_cancel(job.id)
            store.delete(job.id)

        await asyncio.to_thread(away)
        seen = await asyncio.gather(waiting, return_exceptions=True)
        assert isinstance(seen[0], JobNotFoundError) or seen[0].status is Status.CANCELLED  # in between
        with pytest.raises(JobNotFoundError):
            await async_store.wait_for_change(job.id, 20, seen=job)

    run(settings, test)


def test_many_waiting_clients_share_few_connections(settings: Settings, store: JobStore) -> None:
    jobs = [a_job() for _ in range(20)]
    for job in jobs:
        store.create(job)

    def connected() -> int:
        return int(store._redis.info("clients")["connected_clients"])

    async def test(async_store: AsyncJobStore) -> None:
        others = await asyncio.to_thread(connected)  # of tests before this one, not yet collected
        waiting = [asyncio.create_task(async_store.wait_for_change(jobs[n % 20].id, 30)) for n in range(300)]
        await asyncio.sleep(1.0)
        assert await asyncio.to_thread(connected) - others < 50
        for job in jobs:
            await asyncio.to_thread(store.start, job.id)
        assert {job.status for job in await asyncio.gather(*waiting)} == {Status.RUNNING}

    run(settings, test)


def test_following_gives_the_past_then_the_present_then_ends(settings: Settings, store: JobStore) -> None:
    job = a_job()
    store.create(job)
    store.start(job.id)

    async def test(async_store: AsyncJobStore) -> None:
        seen: list[str] = []

        async def follow() -> None:
            async for stored in async_store.follow(job.id):
                seen.append(stored.event.get("status") or stored.event["message"])

        following = asyncio.create_task(follow())
        await asyncio.sleep(0.2)
        assert seen == ["queued", "running"]
        await asyncio.to_thread(store.append_event, job.id, {"type": "warning", "message": "live"})
        await asyncio.to_thread(store.succeed, job.id, RESULT)
        await asyncio.wait_for(following, 2)
        assert seen == ["queued", "running", "live", "succeeded"]

        everything = store.events(job.id)
        resumed = [stored async for stored in async_store.follow(job.id, after=everything[1].id)]
        assert resumed == everything[2:]
        assert [stored async for stored in async_store.follow(job.id, after=everything[-1].id)] == []

    run(settings, test)


def test_a_cut_connection_of_the_ear_is_mended(settings: Settings, store: JobStore) -> None:
    job = a_job()
    store.create(job)

    async def test(async_store: AsyncJobStore) -> None:
        waiting = asyncio.create_task(async_store.wait_for_change(job.id, 20))
        await asyncio.sleep(0.3)
        store._redis.client_kill_filter(_type="pubsub")
        await asyncio.to_thread(store.start, job.id)
        began = time.monotonic()
        assert (await waiting).status is Status.RUNNING
        assert time.monotonic() - began < 6

    run(settings, test)
