"""What `create` promises: the record outlives every process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.async_store import AsyncJobStore
from jobs.settings import Settings
from jobs.store import JobStore
from prunery.valkey import PrivateServer, start_server
from tests.stores import a_job


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], PrivateServer]]:
    servers: list[PrivateServer] = []

    def one() -> PrivateServer:
        server = start_server(tmp_path / "own")
        server.wait(10)
        servers.append(server)
        return server

    yield one
    for server in servers:
        server.stop()


def settings_of(server: PrivateServer) -> Settings:
    return Settings(_env_file=None, redis_url=server.url)


def kill(server: PrivateServer) -> None:
    server.part.process.kill()
    server.part.process.wait()


def test_a_created_job_survives_a_kill_of_the_server(start: Callable[[], PrivateServer]) -> None:
    server = start()
    jobs = [a_job() for _ in range(3)]
    for job in jobs:
        JobStore(settings_of(server)).create(job)
    kill(server)
    store = JobStore(settings_of(start()))
    assert [store.get(job.id) for job in jobs] == jobs


def test_many_jobs_created_at_once_survive_a_kill_of_the_server(start: Callable[[], PrivateServer]) -> None:
    server = start()
    jobs = [a_job() for _ in range(200)]

    async def create() -> None:
        store = AsyncJobStore(settings_of(server))
        await asyncio.gather(*[store.create(job) for job in jobs])
        kill(server)
        await store.close()

    asyncio.run(create())
    found, _ = JobStore(settings_of(start())).page(1000)
    assert {job.id for job in found} == {job.id for job in jobs}


def test_a_server_that_cannot_promise_is_used_with_a_warning(
    start: Callable[[], PrivateServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = start()
    store = JobStore(settings_of(server))
    store._redis.config_set("appendonly", "no")
    job = a_job()
    with caplog.at_level(logging.WARNING):
        store.create(job)
    assert store.get(job.id) == job
    assert "cannot say when a record is on disk" in caplog.text
