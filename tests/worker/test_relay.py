from __future__ import annotations

import pytest

from jobs.errors import NotRunningError, StaleAttemptError
from jobs.record import Job, JobError
from jobs.settings import Settings
from jobs.store import JobStore
from prune_engine.events import Event, Progress, ProgressEvent, Stage, StageEvent, WarningEvent
from tests.stores import a_job
from worker.relay import Relay


class Clock:
    """A clock that goes only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def job(store: JobStore) -> Job:
    job = a_job()
    store.create(job)
    return store.start(job.id)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def relay(store: JobStore, job: Job, clock: Clock) -> Relay:
    return Relay(store, job, 0.5, clock)


def progress(step: int, stage: Stage = "pruning") -> Event:
    return ProgressEvent(stage=stage, progress=Progress(fraction=step / 100, step=step, total_steps=100))


def told(store: JobStore, job: Job) -> list[object]:
    events = [s.event for s in store.events(job.id) if s.event["type"] != "status"]
    return [e["progress"]["step"] if e["type"] == "progress" else e["type"] for e in events]


def test_progress_in_between_is_left_out_and_the_newest_follows_in_time(
    relay: Relay, store: JobStore, job: Job, clock: Clock
) -> None:
    for step in range(10):
        relay.offer(progress(step))
        relay.tick()
    assert told(store, job) == [0]
    clock.now += 0.5
    relay.tick()
    assert told(store, job) == [0, 9]
    assert store.get(job.id).progress.step == 9


def test_the_last_of_a_stage_and_the_first_of_the_next_always_pass(
    relay: Relay, store: JobStore, job: Job
) -> None:
    for event in (progress(1), progress(2), progress(3), StageEvent(stage="finetuning")):
        relay.offer(event)
    relay.offer(progress(4, "finetuning"))
    relay.offer(progress(5, "exporting"))
    relay.tick()
    assert told(store, job) == [1, 3, "stage", 4, 5]
    assert store.get(job.id).stage == "exporting"


def test_what_is_held_back_goes_with_the_end(relay: Relay, store: JobStore, job: Job) -> None:
    relay.offer(progress(1))
    relay.tick()
    relay.offer(progress(2))
    rest = relay.rest({"type": "done"})
    assert [e["type"] for e in rest] == ["progress", "done"]


def test_a_flood_of_warnings_is_thinned_like_progress(relay: Relay, store: JobStore, job: Job) -> None:
    for n in range(1000):
        relay.offer(WarningEvent(message=str(n)))
    relay.tick()
    assert 200 <= len(told(store, job)) < 300


def test_an_outage_delays_events_and_loses_no_stage(
    settings: Settings, store: JobStore, job: Job, clock: Clock
) -> None:
    away = JobStore(settings.model_copy(update={"redis_url": "unix:///nowhere.sock"}))
    relay = Relay(away, job, 0.5, clock)
    relay.offer(StageEvent(stage="pruning"))
    relay.tick()
    relay.offer(progress(1))
    relay._store = store
    relay.tick()
    assert told(store, job) == ["stage", 1]


def test_a_run_that_lost_its_job_hears_of_it(store: JobStore, job: Job, clock: Clock) -> None:
    stale = Relay(store, job.model_copy(update={"attempt": 7}), 0.5, clock)
    stale.offer(progress(1))
    with pytest.raises(StaleAttemptError):
        stale.tick()
    store.fail(job.id, JobError(code="worker_lost", message=""))
    late = Relay(store, job, 0.5, clock)
    late.offer(progress(1))
    with pytest.raises(NotRunningError):
        late.tick()
