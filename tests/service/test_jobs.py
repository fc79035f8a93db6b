"""Listing, watching, cancelling and deleting jobs."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from jobs.record import JobError, Status
from jobs.store import JobStore
from prune_engine.events import Progress
from tests.service.conftest import Api
from tests.service.samples import assert_problem
from tests.stores import a_job


def test_jobs_are_listed_newest_first_page_by_page(api: Api, store: JobStore) -> None:
    for number in range(5):
        store.create(a_job(id=f"job_{number}"))
    first = api.client.get("/jobs?limit=2").json()
    assert [job["id"] for job in first["data"]] == ["job_4", "job_3"]
    assert (first["object"], first["has_more"]) == ("list", True)
    assert [job["queue_position"] for job in first["data"]] == [4, 3]
    rest = api.client.get("/jobs?limit=3&after=job_3").json()
    assert [job["id"] for job in rest["data"]] == ["job_2", "job_1", "job_0"]
    assert rest["has_more"] is False
    store.start("job_1")
    running = api.client.get("/jobs?status=running").json()["data"]
    assert [job["id"] for job in running] == ["job_1"]
    assert running[0]["queue_position"] is None


def test_a_job_says_where_it_is(api: Api, store: JobStore) -> None:
    job_id = api.submit().json()["id"]
    store.start(job_id)
    store.update(job_id, "pruning", Progress(fraction=0.5, step=10, total_steps=20, eta_seconds=3.0))
    job = api.client.get(f"/jobs/{job_id}").json()
    assert (job["status"], job["stage"], job["attempt"]) == ("running", "pruning", 1)
    several = {"stop": None, "stops": None, "target_density": None}
    assert job["progress"] == {"fraction": 0.5, "step": 10, "total_steps": 20, "eta_seconds": 3.0} | several
    assert job["started_at"] is not None
    store.fail(job_id, JobError(code="labels_out_of_range", message="label 12", param="dataset"))
    job = api.client.get(f"/jobs/{job_id}").json()
    assert job["error"] == {"code": "labels_out_of_range", "message": "label 12", "param": "dataset"}
    assert job["links"]["cancel"] is None


def test_waiting_answers_at_the_change_and_at_the_latest_when_the_time_is_up(
    api: Api, store: JobStore
) -> None:
    job_id = api.submit().json()["id"]
    began = time.monotonic()
    assert api.client.get(f"/jobs/{job_id}?wait=0.5").json()["status"] == "queued"
    assert 0.4 < time.monotonic() - began < 3
    threading.Timer(0.3, store.start, [job_id]).start()
    began = time.monotonic()
    assert api.client.get(f"/jobs/{job_id}?wait=20").json()["status"] == "running"
    assert time.monotonic() - began < 3
    store.fail(job_id, JobError(code="x", message="y"))
    began = time.monotonic()
    assert api.client.get(f"/jobs/{job_id}?wait=20").json()["status"] == "failed"
    assert time.monotonic() - began < 1


def test_waiting_clients_are_let_go_when_the_server_ends(api: Api) -> None:
    job_id = api.submit().json()["id"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.client.get, f"/jobs/{job_id}?wait=60")
        time.sleep(0.3)
        api.server.handle_exit(15, None)
        assert waiting.result(timeout=5).json()["status"] == "queued"


def test_a_queued_job_is_cancelled_at_once_a_running_one_is_told(api: Api, store: JobStore) -> None:
    queued, running = (api.submit().json()["id"] for _ in range(2))
    store.start(running)
    answer = api.client.post(f"/jobs/{queued}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    for _ in range(2):
        answer = api.client.post(f"/jobs/{running}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelling")
        assert answer.headers["location"] == f"/jobs/{running}"
    store.cancelled(running)
    assert api.client.post(f"/jobs/{running}/cancel").status_code == 200
    failed = api.submit().json()["id"]
    store.fail(failed, JobError(code="x", message="y"))
    assert_problem(api.client.post(f"/jobs/{failed}/cancel"), 409, "job_not_cancellable", None)
    assert_problem(api.client.post("/jobs/job_0/cancel"), 404, "job_not_found", "job_id")


def test_only_an_ended_job_can_be_deleted_and_its_files_go_with_it(api: Api, store: JobStore) -> None:
    job_id = api.submit().json()["id"]
    assert_problem(api.client.delete(f"/jobs/{job_id}"), 409, "job_not_deletable", None)
    assert (api.artifacts / job_id).exists()
    store.request_cancel(job_id)
    answer = api.client.delete(f"/jobs/{job_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert api.stored() == []
    assert_problem(api.client.get(f"/jobs/{job_id}"), 404, "job_not_found", "job_id")
    assert_problem(api.client.delete(f"/jobs/{job_id}"), 404, "job_not_found", "job_id")
    assert store.counts()[Status.CANCELLED] == 0
