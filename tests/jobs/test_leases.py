"""Leases by the store's own clock, giving jobs back, and who is next in the queue."""

from __future__ import annotations

import time

import pytest

from jobs.errors import InvalidTransitionError, NotRunningError, StaleAttemptError
from jobs.record import Checkpoint, CheckpointFile, Job, JobError, JobResult, Status, now
from jobs.settings import Settings
from jobs.store import JobStore
from prune_engine.spec import PruneSpec
from tests.stores import a_job

WHY = JobError(code="worker_lost", message="gone")
RESULT = JobResult(density=0.1, metrics={}, artifacts=[])


def running(store: JobStore, lease: float = 30.0) -> Job:
    job = a_job()
    store.create(job)
    return store.start(job.id, "worker-1", lease)


def a_checkpoint(job: Job, step: int = 5) -> Checkpoint:
    file = CheckpointFile(name="checkpoint.json", key=f"{job.id}/checkpoint/1-1/c", bytes=2, sha256="00")
    return Checkpoint(files=(file,), step=step, total_steps=10, attempt=job.attempt, saved_at=now())


def test_a_lease_runs_out_unless_it_is_renewed(store: JobStore) -> None:
    job, other = running(store, 0.3), running(store, 0.3)
    assert store.lapsed() == []
    assert store.renew(other, 30)
    time.sleep(0.4)
    assert store.lapsed() == [job.id]


def test_a_lease_that_ran_out_can_be_renewed_until_somebody_else_has_the_job(store: JobStore) -> None:
    job = running(store, 0.01)
    time.sleep(0.05)
    assert store.renew(job, 0.01)
    time.sleep(0.05)
    store.take_away(job.id, WHY, 3)
    assert not store.renew(job, 30)
    again = store.start(job.id, "worker-1")
    assert not store.renew(job, 30)
    assert store.renew(again, 30)


def test_a_job_is_not_taken_away_before_its_lease_has_run_out(store: JobStore) -> None:
    job = running(store)
    assert store.take_away(job.id, WHY, 3) == job
    assert store.get(job.id) == job
    assert store.take_away(job.id, WHY, 3, at_once=True).status is Status.QUEUED


def test_a_job_that_was_taken_away_says_why_and_takes_no_write_of_its_last_run(store: JobStore) -> None:
    job = running(store, 0.01)
    store.save(job.id, a_checkpoint(job))
    time.sleep(0.05)
    back = store.take_away(job.id, WHY, 3)
    assert (back.status, back.failures, back.lease) == (Status.QUEUED, 1, None)
    event = store.events(job.id)[-1].event
    assert event["reason"] == {"code": "worker_lost", "message": "gone"}
    for write in (
        lambda: store.update(job.id, "pruning", attempt=job.attempt),
        lambda: store.succeed(job.id, RESULT, attempt=job.attempt),
        lambda: store.fail(job.id, WHY, attempt=job.attempt),
        lambda: store.save(job.id, a_checkpoint(job, 6)),
        lambda: store.give_back(job.id, WHY, attempt=job.attempt),
    ):
        with pytest.raises(NotRunningError):
            write()
        assert store.get(job.id) == back
    again = store.start(job.id, "worker-2")
    assert again.attempt == 2
    assert again.checkpoint is not None
    assert again.checkpoint.step == 5
    with pytest.raises(StaleAttemptError):
        store.succeed(job.id, RESULT, attempt=job.attempt)


def test_a_job_fails_when_as_many_attempts_as_may_have_been_lost(store: JobStore) -> None:
    job = running(store)
    assert store.give_back(job.id, WHY, most_failures=2, attempt=1).status is Status.QUEUED
    store.start(job.id)
    failed = store.give_back(job.id, WHY, most_failures=2, attempt=2)
    assert failed.status is Status.FAILED
    assert failed.error == JobError(code="worker_lost", message="gone (2 attempts were made)")


def test_orderly_ends_of_a_run_count_as_no_failure(store: JobStore) -> None:
    job = running(store)
    for attempt in range(1, 6):
        assert store.give_back(job.id, WHY, attempt=attempt).failures == 0
        store.start(job.id)
    assert store.get(job.id).attempt == 6


def test_what_was_asked_for_meanwhile_is_done_when_the_run_ends(store: JobStore) -> None:
    paused, cancelled = running(store), running(store)
    store.request_pause(paused.id)
    store.request_cancel(cancelled.id)
    assert store.give_back(paused.id, WHY, most_failures=3).status is Status.PAUSED
    assert store.give_back(cancelled.id, WHY, most_failures=3).status is Status.CANCELLED


def test_a_retried_job_counts_its_failures_anew_and_keeps_its_checkpoint(store: JobStore) -> None:
    job = running(store)
    store.save(job.id, a_checkpoint(job))
    store.give_back(job.id, WHY, most_failures=1)
    again = store.retry(job.id)
    assert (again.status, again.failures, again.error, again.finished_at) == (Status.QUEUED, 0, None, None)
    assert again.checkpoint is not None
    assert store.start(job.id).attempt == 2


def test_a_request_made_twice_is_made_once(store: JobStore) -> None:
    job = a_job()
    store.create(job)
    for ask in (store.request_pause, store.resume, store.request_cancel, store.retry):
        assert ask(job.id) == ask(job.id)
    told = [s.event["status"] for s in store.events(job.id)]
    assert told == ["queued", "paused", "queued", "cancelled", "queued"]


def test_requests_that_make_no_sense_are_refused(store: JobStore) -> None:
    done, pausing = running(store), running(store)
    store.succeed(done.id, RESULT)
    store.request_pause(pausing.id)
    for ask, job in (
        (store.request_pause, done),
        (store.resume, done),
        (store.retry, done),
        (store.retry, pausing),
        (store.resume, pausing),
    ):
        with pytest.raises(InvalidTransitionError):
            ask(job.id)


def test_urgent_jobs_are_next_and_the_position_says_so(store: JobStore) -> None:
    for number, priority in enumerate(("low", "normal", "high", "low", "high", "normal")):
        store.create(a_job(id=f"job_{number}", priority=priority))
    store.create(a_job(id="job_9", spec=PruneSpec(density=0.1, device="cuda")))
    order = ["job_2", "job_4", "job_1", "job_5", "job_0", "job_3"]
    assert store.waiting(False, 10) == order
    assert store.waiting(True, 10) == ["job_9"]
    assert [store.queue_position(job_id) for job_id in order] == list(range(6))
    assert store.queue_position("job_9") == 0
    store.start("job_2")
    assert store.waiting(False, 1) == ["job_4"]
    assert store.queue_position("job_2") is None


def test_records_of_an_older_prunery_are_put_in_order(settings: Settings) -> None:
    store = JobStore(settings)
    queued, held = a_job(), running(store)
    store.create(queued)
    job = store.get(held.id)
    store._redis.set(store._layout.record(held.id), job.model_copy(update={"lease": None}).model_dump_json())
    store._redis.delete(store._layout.waiting(False), store._layout.leases, store._layout.owners)
    assert store.mend() == 2
    assert store.mend() == 0
    assert store.waiting(False, 2) == [queued.id]
    assert store.take_away(held.id, WHY, 3).status is Status.RUNNING  # it has a lease again
