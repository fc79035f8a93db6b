from __future__ import annotations

import threading
import time

import pytest

from jobs.connection import _options
from jobs.errors import (
    EventIdError,
    JobExistsError,
    JobNotFoundError,
    NotCancellableError,
    NotDeletableError,
    NotRunningError,
    NotStartableError,
    StaleAttemptError,
    StoreUnavailableError,
)
from jobs.record import Job, JobError, JobResult, Status
from jobs.replies import DISK_SECONDS
from jobs.settings import Settings
from jobs.store import JobStore
from prune_engine.events import Progress
from tests.stores import a_job

RESULT = JobResult(density=0.1, metrics={"after": {"accuracy": 99.0}}, artifacts=[])


def running(store: JobStore) -> Job:
    job = a_job()
    store.create(job)
    return store.start(job.id, "worker-1")


def statuses(store: JobStore, job_id: str) -> list[str]:
    return [s.event["status"] for s in store.events(job_id) if s.event["type"] == "status"]


def test_a_job_comes_back_as_it_was_created(store: JobStore) -> None:
    job = a_job()
    store.create(job)
    assert store.get(job.id) == job


def test_an_id_is_taken_once(store: JobStore) -> None:
    job = a_job()
    store.create(job)
    with pytest.raises(JobExistsError):
        store.create(a_job(id=job.id))


def test_a_job_that_is_sent_again_after_a_worker_took_it_is_the_same_job(store: JobStore) -> None:
    """As the client does where the server's first answer does not arrive in time."""
    job = a_job()
    store.create(job)
    store.start(job.id, "worker-1")
    store.create(job)
    assert store.get(job.id).status is Status.RUNNING
    assert statuses(store, job.id) == ["queued", "running"]


def test_a_slow_disk_is_waited_for_less_long_than_an_answer() -> None:
    assert _options("redis://")["socket_timeout"] > DISK_SECONDS


def test_an_unknown_job_is_not_found(store: JobStore) -> None:
    for ask in (store.get, store.start, store.events, store.request_cancel):
        with pytest.raises(JobNotFoundError):
            ask("job_unknown")


def test_every_transition_tells_the_stream(store: JobStore) -> None:
    job = running(store)
    store.succeed(job.id, RESULT)
    assert statuses(store, job.id) == ["queued", "running", "succeeded"]
    assert store.events(job.id)[-1].is_end


def test_success_notes_result_time_and_full_progress(store: JobStore) -> None:
    job = running(store)
    done = store.succeed(job.id, RESULT, attempt=job.attempt)
    assert (done.result, done.progress.fraction) == (RESULT, 1.0)
    assert done.finished_at is not None
    assert done.started_at is not None
    assert done.finished_at >= done.started_at
    assert store.get(job.id) == done


def test_a_second_start_is_refused(store: JobStore) -> None:
    job = running(store)
    with pytest.raises(NotStartableError):
        store.start(job.id)


def test_of_many_that_start_a_job_at_once_one_gets_it(settings: Settings, store: JobStore) -> None:
    job = a_job()
    store.create(job)
    barrier, won = threading.Barrier(8), []

    def take(name: int) -> None:
        mine = JobStore(settings)
        barrier.wait()
        try:
            mine.start(job.id, f"worker-{name}")
        except NotStartableError:
            return
        won.append(name)

    threads = [threading.Thread(target=take, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.get(job.id).attempt == 1


def test_concurrent_updates_are_all_kept(settings: Settings, store: JobStore) -> None:
    job = running(store)

    def note(name: int) -> None:
        mine = JobStore(settings)
        for step in range(20):
            mine.append_event(job.id, {"type": "warning", "message": f"{name}-{step}"})

    threads = [threading.Thread(target=note, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    messages = {s.event["message"] for s in store.events(job.id) if s.event["type"] == "warning"}
    assert len(messages) == 80


def test_a_write_of_an_old_attempt_is_refused(store: JobStore) -> None:
    job = running(store)
    for write in (
        lambda: store.update(job.id, "pruning", attempt=job.attempt - 1),
        lambda: store.succeed(job.id, RESULT, attempt=job.attempt - 1),
        lambda: store.fail(job.id, JobError(code="x", message="y"), attempt=job.attempt - 1),
    ):
        with pytest.raises(StaleAttemptError):
            write()
    assert store.get(job.id) == job


def test_an_update_sets_stage_and_progress_and_appends_its_event(store: JobStore) -> None:
    job = running(store)
    progress = Progress(fraction=0.5, step=5, total_steps=10)
    store.update(job.id, "pruning", progress, events=[{"type": "progress", "time": 1.0}])
    now = store.get(job.id)
    assert (now.stage, now.progress) == ("pruning", progress)
    assert store.events(job.id)[-1].event == {"type": "progress", "time": 1.0}


def test_an_ended_job_makes_no_progress(store: JobStore) -> None:
    job = running(store)
    store.fail(job.id, JobError(code="child_crashed", message="SIGSEGV"))
    with pytest.raises(NotRunningError):
        store.update(job.id, "pruning")
    with pytest.raises(NotRunningError):
        store.append_event(job.id, {"type": "warning", "message": "late"})


def test_cancelling_a_queued_job_ends_it_at_once(store: JobStore) -> None:
    job = a_job()
    store.create(job)
    assert store.request_cancel(job.id).status is Status.CANCELLED
    with pytest.raises(NotStartableError):
        store.start(job.id)


def test_cancelling_a_running_job_waits_for_its_worker_and_twice_is_once(store: JobStore) -> None:
    job = running(store)
    assert store.request_cancel(job.id).status is Status.CANCELLING
    assert store.request_cancel(job.id).status is Status.CANCELLING
    assert store.cancelled(job.id).status is Status.CANCELLED
    assert store.request_cancel(job.id).status is Status.CANCELLED
    assert statuses(store, job.id) == ["queued", "running", "cancelling", "cancelled"]


def test_an_ended_job_cannot_be_cancelled(store: JobStore) -> None:
    job = running(store)
    store.succeed(job.id, RESULT)
    with pytest.raises(NotCancellableError):
        store.request_cancel(job.id)


def test_only_ended_jobs_are_deleted_and_twice_is_once(store: JobStore) -> None:
    job = running(store)
    with pytest.raises(NotDeletableError):
        store.delete(job.id)
    store.succeed(job.id, RESULT)
    assert store.delete(job.id) is True
    assert store.delete(job.id) is False
    assert store.page(10) == ([], False)
    with pytest.raises(JobNotFoundError):
        store.events(job.id)


def test_a_deleted_job_leaves_no_key_but_totals(store: JobStore, redis_prefix: str) -> None:
    job = running(store)
    store.succeed(job.id, RESULT)
    store.delete(job.id)
    assert store._redis.keys(f"{redis_prefix}*") == [f"{redis_prefix}totals"]


def test_pages_go_from_new_to_old_and_filter_by_status(store: JobStore) -> None:
    jobs = [a_job(id=f"job_{n:03d}") for n in range(7)]
    for job in jobs:
        store.create(job)
    store.start("job_003")
    first, more = store.page(3)
    assert ([j.id for j in first], more) == (["job_006", "job_005", "job_004"], True)
    rest, more = store.page(10, after="job_004")
    assert ([j.id for j in rest], more) == (["job_003", "job_002", "job_001", "job_000"], False)
    assert [j.id for j in store.page(10, status=Status.RUNNING)[0]] == ["job_003"]
    assert store.counts()[Status.QUEUED] == 6


def test_queue_position_counts_older_queued_jobs(store: JobStore) -> None:
    for n in range(3):
        store.create(a_job(id=f"job_{n}"))
    assert [store.queue_position(f"job_{n}") for n in range(3)] == [0, 1, 2]
    store.start("job_0")
    assert [store.queue_position(f"job_{n}") for n in range(3)] == [None, 0, 1]


def test_events_come_in_order_from_where_one_left_off(store: JobStore) -> None:
    job = running(store)
    for n in range(5):
        store.append_event(job.id, {"type": "warning", "message": str(n)})
    everything = store.events(job.id)
    assert store.events(job.id, after=everything[2].id) == everything[3:]
    assert store.events(job.id, limit=2) == everything[:2]
    for bad in ("x", "1-2-3", "(5", "99999999999999999999-1"):
        with pytest.raises(EventIdError):
            store.events(job.id, after=bad)


def test_a_long_stream_loses_progress_only(settings: Settings) -> None:
    store = JobStore(settings.model_copy(update={"events_per_job": 40}))
    job = running(store)
    for step in range(500):
        store.update(job.id, events=[{"type": "progress", "step": step}])
        if step % 50 == 0:
            store.append_event(job.id, {"type": "stage", "stage": "pruning"})
    kept = [s.event for s in store.events(job.id)]
    assert len(kept) <= 41
    assert sum(e["type"] == "stage" for e in kept) == 10
    assert [e["status"] for e in kept if e["type"] == "status"] == ["queued", "running"]
    steps = [e["step"] for e in kept if e["type"] == "progress"]
    assert steps == sorted(steps)
    assert steps[-1] == 499


def test_a_flood_of_other_events_is_bounded_too(settings: Settings) -> None:
    store = JobStore(settings.model_copy(update={"events_per_job": 40}))
    job = running(store)
    for _ in range(100):
        store.append_event(job.id, {"type": "warning", "message": "again"})
    assert len(store.events(job.id)) <= 41


def test_a_repeated_write_counts_once(store: JobStore) -> None:
    """The client repeats a command whose answer was lost with the connection."""
    from jobs import moves

    job = a_job()
    store.create(job)
    change = moves.start("worker-1")(job)
    call = store._layout.commit(store._read(job.id)[0], job, change, lease=30.0)
    assert store._eval(call)[0] == "ok"
    assert store._eval(call)[0] == "ok"
    assert statuses(store, job.id) == ["queued", "running"]


def test_workers_live_as_long_as_they_beat(store: JobStore) -> None:
    store.beat("worker-1", 0.3)
    store.beat("worker-2", 30)
    assert store.living_workers() == ["worker-1", "worker-2"]
    time.sleep(0.35)
    assert store.living_workers() == ["worker-2"]
    store.leave("worker-2")
    assert store.living_workers() == []


def test_totals_outlive_the_jobs(store: JobStore) -> None:
    job = running(store)
    store.fail(job.id, JobError(code="child_crashed", message=""))
    store.delete(job.id)
    store.create(a_job())
    totals = store.totals()
    assert (totals["created"], totals["failed:child_crashed"], totals["run:failed:count"]) == (2, 1, 1)


def test_a_server_that_takes_no_writes_is_said_to_be_away(store: JobStore) -> None:
    job = running(store)
    with store._redis as server:
        server.config_set("min-replicas-to-write", 1)
        try:
            with pytest.raises(StoreUnavailableError, match="takes no writes"):
                store.update(job.id, events=({"type": "warning", "message": ""},))
            with pytest.raises(StoreUnavailableError, match="takes no writes"):
                store.create(a_job())
        finally:
            server.config_set("min-replicas-to-write", 0)
    assert store.get(job.id) == job


def test_an_absent_server_is_said_to_be_absent(settings: Settings) -> None:
    store = JobStore(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    with pytest.raises(StoreUnavailableError, match="REDIS_URL"):
        store.get("job_x")
