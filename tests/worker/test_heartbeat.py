from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from jobs.doorbell import Doorbell
from jobs.record import Status
from jobs.settings import Settings
from jobs.store import JobStore
from tests.stores import a_job
from worker.heartbeat import Heartbeat

Eventually = Callable[..., None]


class Rung(Doorbell):
    """A doorbell that remembers who was rung for."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.jobs: list[str] = []

    def ring(self, job_id: str, *, device: str = "auto") -> None:
        self.jobs.append(job_id)


class Alive:
    """A heartbeat whose worker is busy or not as the test says."""

    def __init__(self, settings: Settings, store: JobStore) -> None:
        self.busy = True
        self.bell = Rung(settings)
        self.heartbeat = Heartbeat(settings, store, self.bell, "worker-1", lambda: self.busy)


@pytest.fixture
def alive(settings: Settings, store: JobStore) -> Iterator[Alive]:
    alive = Alive(settings.model_copy(update={"heartbeat_seconds": 0.1}), store)
    yield alive
    alive.heartbeat.stop()


def test_a_worker_counts_as_living_from_its_start_to_its_stop(settings: Settings, store: JobStore) -> None:
    alive = Alive(settings.model_copy(update={"heartbeat_seconds": 0.1}), store)
    alive.heartbeat.start()
    for _ in range(10):
        assert store.living_workers() == ["worker-1"]
        time.sleep(0.1)
    alive.heartbeat.stop()
    assert store.living_workers() == []


def test_every_queued_job_is_rung_for_at_the_start(
    alive: Alive, store: JobStore, eventually: Eventually
) -> None:
    jobs = [a_job(id=f"job_{n}") for n in range(3)]
    for job in jobs:
        store.create(job)
    alive.heartbeat.start()
    eventually(lambda: alive.bell.jobs == [job.id for job in jobs], 2)


def test_an_idle_worker_rings_for_jobs_that_nobody_takes_and_a_busy_one_does_not(
    alive: Alive, store: JobStore, eventually: Eventually
) -> None:
    alive.heartbeat.start()
    job = a_job()
    store.create(job)
    eventually(lambda: store.living_workers(), 1)
    assert alive.bell.jobs == []
    alive.busy = False
    eventually(lambda: job.id in alive.bell.jobs, 2)


def test_a_job_fails_once_its_worker_has_been_gone_for_long_enough(
    alive: Alive, store: JobStore, eventually: Eventually
) -> None:
    lost, mine = a_job(), a_job()
    for job, owner in ((lost, "worker-gone"), (mine, "worker-1")):
        store.create(job)
        store.start(job.id, owner)
    alive.heartbeat.start()
    assert store.get(lost.id).status is Status.RUNNING
    eventually(lambda: store.get(lost.id).status is Status.FAILED, 3)
    error = store.get(lost.id).error
    assert error is not None
    assert error.code == "worker_lost"
    assert store.get(mine.id).status is Status.RUNNING


def test_a_job_that_was_being_cancelled_when_its_worker_went_is_cancelled(
    alive: Alive, store: JobStore, eventually: Eventually
) -> None:
    job = a_job()
    store.create(job)
    store.start(job.id, "worker-gone")
    store.request_cancel(job.id)
    alive.heartbeat.start()
    eventually(lambda: store.get(job.id).status is Status.CANCELLED, 3)


def test_a_worker_that_comes_back_in_time_keeps_its_job(
    settings: Settings, store: JobStore, eventually: Eventually
) -> None:
    patient = Alive(settings.model_copy(update={"heartbeat_seconds": 0.3}), store)
    job = a_job()
    store.create(job)
    store.start(job.id, "worker-away")
    patient.heartbeat.start()
    eventually(lambda: patient.heartbeat._alone_since, 3)
    store.beat("worker-away", 60)
    eventually(lambda: not patient.heartbeat._alone_since, 3)
    assert store.get(job.id).status is Status.RUNNING
    patient.heartbeat.stop()
