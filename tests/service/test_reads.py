"""Reads that many clients share: each is answered with what the store held after it asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from jobs.async_store import AsyncJobStore
from jobs.errors import JobNotFoundError, StoreUnavailableError
from jobs.retention import Retention
from jobs.settings import Settings
from jobs.store import JobStore
from service.reads import Reads
from service.views import JobView
from tests.stores import a_job


def run(settings: Settings, test: Callable[[Reads], Awaitable[None]]) -> None:
    async def with_store() -> None:
        store = AsyncJobStore(settings)
        try:
            await test(Reads(store, Retention.of(settings)))
        finally:
            await store.close()

    asyncio.run(with_store())


def status(answer: bytes) -> str:
    return JobView.model_validate_json(answer).status.value


def test_everybody_gets_an_answer_of_his_own_whoever_else_asks(settings: Settings, store: JobStore) -> None:
    for number in range(3):
        store.create(a_job(id=f"job_{number}"))
    store.start("job_1")

    async def test(reads: Reads) -> None:
        ids = ["job_0", "job_1", "job_2", "job_x"] * 50
        answers = await asyncio.gather(*map(reads.get, ids), return_exceptions=True)
        for job_id, answer in zip(ids, answers, strict=True):
            if job_id == "job_x":
                assert isinstance(answer, JobNotFoundError)
            else:
                assert isinstance(answer, bytes)
                view = JobView.model_validate_json(answer)
                assert view.id == job_id
                assert view.queue_position == {"job_0": 0, "job_1": None, "job_2": 1}[job_id]

    run(settings, test)


def test_a_change_is_seen_by_whoever_asks_after_it(settings: Settings, store: JobStore) -> None:
    store.create(a_job(id="job_0"))

    async def test(reads: Reads) -> None:
        assert status(await reads.get("job_0")) == "queued"
        under_way = asyncio.ensure_future(reads.get("job_0"))
        await asyncio.sleep(0)
        store.start("job_0")
        after = asyncio.ensure_future(reads.get("job_0"))
        await under_way
        assert status(await after) == "running"
        assert status(await reads.get("job_0")) == "running"
        store.request_cancel("job_0")
        assert status(await reads.get("job_0")) == "cancelling"

    run(settings, test)


def test_a_client_that_leaves_takes_nothing_from_the_others(settings: Settings, store: JobStore) -> None:
    store.create(a_job(id="job_0"))

    async def test(reads: Reads) -> None:
        asking = [asyncio.ensure_future(reads.get("job_0")) for _ in range(3)]
        await asyncio.sleep(0)
        asking[0].cancel()
        assert status(await asking[1]) == status(await asking[2]) == "queued"

    run(settings, test)


def test_a_store_that_is_away_is_told_to_all(settings: Settings) -> None:
    async def test(reads: Reads) -> None:
        answers = await asyncio.gather(*(reads.get("job_0") for _ in range(5)), return_exceptions=True)
        assert all(isinstance(answer, StoreUnavailableError) for answer in answers)
        with pytest.raises(StoreUnavailableError):
            await reads.get("job_0")

    run(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}), test)
