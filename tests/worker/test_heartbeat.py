from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from jobs.doorbell import Doorbell
from jobs.record import Status
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.sweeper import Sweeper
from tests.stores import a_job
from worker.heartbeat import Heartbeat

Eventually = Callable[..., None]


class Rung(Doorbell):
    """A doorbell that remembers who was rung for."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.jobs: list[str] = []

    def ring(self, job_id: str, *, gpu: bool = False) -> None:
        self.jobs.append(job_id)


class Alive:
    """A heartbeat whose worker is busy or not as the test says."""

    def __init__(self, settings: Settings, store: JobStore) -> None:
        self.busy = True
        self.bell = Rung(settings)
        self.sweeper = Sweeper(settings, store, self.bell)
        self.heartbeat = Heartbeat(settings, store, self.sweeper, "worker-1", lambda: self.busy)


@pytest.fixture
def alive(settings: Settings, store: JobStore) -> Iterator[Alive]:
    quick = {"heartbeat_seconds": 0.1, "lease_renew_seconds": 0.3}
    alive = Alive(settings.model_copy(update=quick), store)
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


def test_a_job_whose_lease_ran_out_is_queued_again_and_rung_for(
    alive: Alive, store: JobStore, eventually: Eventually
) -> None:
    lost, mine = a_job(), a_job()
    for job, lease in ((lost, 0.1), (mine, 60)):
        store.create(job)
        store.start(job.id, "worker-gone", lease)
    alive.heartbeat.start()
    eventually(lambda: store.get(lost.id).status is Status.QUEUED)
    eventually(lambda: lost.id in alive.bell.jobs)
    assert store.get(mine.id).status is Status.RUNNING


def test_a_job_whose_workers_are_lost_too_often_fails(
    alive: Alive, store: JobStore, eventually: Eventually
) -> None:
    job = a_job()
    store.create(job)
    alive.heartbeat.start()
    for _ in range(3):
        store.start(job.id, "worker-gone", 0.05)
        eventually(lambda: store.get(job.id).status is not Status.RUNNING)
    error = store.get(job.id).error
    assert error is not None
    assert error.code == "worker_lost"
    assert "3 attempts" in error.message


def test_a_job_that_was_being_cancelled_or_paused_when_its_worker_went_is(
    alive: Alive, store: JobStore, eventually: Eventually
) -> None:
    cancelled, paused = a_job(), a_job()
    for job, ask in ((cancelled, store.request_cancel), (paused, store.request_pause)):
        store.create(job)
        store.start(job.id, "worker-gone", 0.1)
        ask(job.id)
    alive.heartbeat.start()
    eventually(lambda: store.get(cancelled.id).status is Status.CANCELLED)
    eventually(lambda: store.get(paused.id).status is Status.PAUSED)


def test_a_worker_that_renews_its_lease_in_time_keeps_its_job(
    settings: Settings, store: JobStore, eventually: Eventually
) -> None:
    patient = Alive(
        settings.model_copy(update={"heartbeat_seconds": 0.1, "lease_renew_seconds": 60.0}), store
    )
    job = a_job()
    store.create(job)
    taken = store.start(job.id, "worker-away", 0.05)
    patient.heartbeat.start()
    eventually(lambda: patient.sweeper._lapsed_since)
    assert store.renew(taken, 60)
    eventually(lambda: not patient.sweeper._lapsed_since)
    assert store.get(job.id).status is Status.RUNNING
    patient.heartbeat.stop()
