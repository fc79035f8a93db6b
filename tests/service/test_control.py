"""Pausing, resuming and retrying jobs, and what those who watch see of it."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import redis

from jobs.record import Checkpoint, JobError, Status, now
from jobs.settings import Settings
from jobs.store import JobStore
from tests.service.conftest import Api, running
from tests.service.samples import assert_problem
from tests.stores import a_job

LOST = JobError(code="worker_lost", message="gone")


def rung(api: Api) -> int:
    """Messages in the queue."""
    client = redis.Redis.from_url(api.settings.require_redis_url())
    return int(client.llen(f"{api.settings.redis_prefix}{api.settings.queue}"))


def test_a_queued_job_is_paused_at_once_and_rung_for_when_it_is_resumed(api: Api, store: JobStore) -> None:
    job_id = api.submit().json()["id"]
    for _ in range(2):
        answer = api.client.post(f"/jobs/{job_id}/pause")
        assert (answer.status_code, answer.json()["status"]) == (200, "paused")
    paused = answer.json()
    assert paused["queue_position"] is None
    assert paused["links"]["resume"] == f"/jobs/{job_id}/resume"
    assert paused["links"]["pause"] is None
    before = rung(api)
    answer = api.client.post(f"/jobs/{job_id}/resume")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert answer.headers["Location"] == f"/jobs/{job_id}"
    assert rung(api) == before + 1
    store.start(job_id)
    assert api.client.post(f"/jobs/{job_id}/resume").json()["status"] == "running"


def test_a_running_job_is_pausing_until_its_worker_has_given_it_back(api: Api, store: JobStore) -> None:
    job_id = api.submit().json()["id"]
    job = store.start(job_id)
    store.save(job_id, Checkpoint(files=(), step=7, total_steps=20, attempt=1, saved_at=now()))
    for _ in range(2):
        answer = api.client.post(f"/jobs/{job_id}/pause")
        assert (answer.status_code, answer.json()["status"]) == (202, "pausing")
    assert_problem(api.client.post(f"/jobs/{job_id}/resume"), 409, "job_not_resumable")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.client.get, f"/jobs/{job_id}?wait=30")
        time.sleep(0.3)
        store.give_back(job_id, LOST, attempt=job.attempt)
        paused = waiting.result(timeout=20).json()
    assert (paused["status"], paused["stage"]) == ("paused", None)
    assert paused["checkpoint"]["step"] == 7
    assert api.client.post(f"/jobs/{job_id}/cancel").json()["status"] == "cancelled"


def test_a_failed_job_is_retried_with_its_error_forgotten(api: Api, store: JobStore) -> None:
    job_id = api.submit().json()["id"]
    store.start(job_id)
    store.fail(job_id, JobError(code="child_crashed", message="SIGSEGV"))
    failed = api.client.get(f"/jobs/{job_id}").json()
    assert failed["links"]["retry"] == f"/jobs/{job_id}/retry"
    for _ in range(2):
        answer = api.client.post(f"/jobs/{job_id}/retry")
        assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    again = answer.json()
    assert (again["error"], again["finished_at"], again["queue_position"]) == (None, None, 0)


def test_an_api_that_starts_rings_for_who_waits(settings: Settings, store: JobStore) -> None:
    store.create(a_job())
    with running(settings) as api:
        until = time.monotonic() + 20
        while rung(api) != 1:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_what_cannot_be_asked_for_is_refused_with_a_reason(api: Api, store: JobStore) -> None:
    done = api.submit().json()["id"]
    store.start(done)
    store.fail(done, JobError(code="x", message="y"))
    for verb, code in (("pause", "job_not_pausable"), ("resume", "job_not_resumable")):
        assert_problem(api.client.post(f"/jobs/{done}/{verb}"), 409, code)
    paused = api.submit().json()["id"]
    api.client.post(f"/jobs/{paused}/pause")
    detail = assert_problem(api.client.post(f"/jobs/{paused}/retry"), 409, "job_not_retriable")
    assert "is paused" in detail
    for verb in ("pause", "resume", "retry"):
        assert_problem(api.client.post(f"/jobs/job_0/{verb}"), 404, "job_not_found", "job_id")


def test_priority_is_a_field_and_decides_the_place_in_the_queue(api: Api) -> None:
    jobs = [api.submit(priority=priority).json() for priority in ("low", "normal", "high", "high")]
    assert [job["priority"] for job in jobs] == ["low", "normal", "high", "high"]
    places = [api.client.get(f"/jobs/{job['id']}").json()["queue_position"] for job in jobs]
    assert places == [3, 2, 0, 1]
    assert api.submit().json()["priority"] == "normal"
    assert_problem(api.submit(priority="urgent"), 422, "spec_invalid", "priority")


def test_who_watches_live_sees_a_retry_and_what_comes_after_it(api: Api, store: JobStore) -> None:
    job_id = api.submit().json()["id"]
    store.start(job_id)
    store.fail(job_id, JobError(code="x", message="y"))
    api.client.post(f"/jobs/{job_id}/retry")
    timer = threading.Timer(0.5, _finish, (store, job_id))
    timer.start()
    seen = []
    with httpx.stream(
        "GET", f"{api.url}/jobs/{job_id}/events", headers={"Accept": "text/event-stream"}, timeout=20
    ) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                seen.append(event.get("status"))
    assert seen == ["queued", "running", "failed", "queued", "running", "failed"]


def _finish(store: JobStore, job_id: str) -> None:
    assert store.start(job_id).status is Status.RUNNING
    store.fail(job_id, JobError(code="x", message="y"))
