"""Health, readiness, metrics, the index, the catalogue."""

from __future__ import annotations

import re
import socket
import time

import pytest

from jobs.figures import MEMORY_BOUNDS, observed
from jobs.record import JobError
from jobs.sandbox import choice
from jobs.sandbox.choice import sandbox_of
from jobs.settings import Settings
from jobs.store import JobStore
from tests.service.conftest import Api, running
from tests.service.samples import assert_problem, small_onnx
from tests.stores import a_job


def test_health_and_index(api: Api) -> None:
    assert api.client.get("/healthz").json() == {"status": "ok"}
    index = api.client.get("/").json()
    for path in ("docs", "openapi", "jobs", "datasets", "health", "metrics"):
        assert api.client.get(index[path]).status_code == 200, path


def test_readiness_says_which_part_is_missing(api: Api, store: JobStore) -> None:
    response = api.client.get("/readyz")
    assert response.status_code == 503
    parts = response.json()["parts"]
    assert {name: part["ready"] for name, part in parts.items()} == {
        "store": True,
        "artifacts": True,
        "disk": True,
        "workers": False,
        "sandbox": True,
    }
    assert "no worker lives" in parts["workers"]["detail"]
    store.beat("worker-1", 30, "a box of sand")
    ready = api.client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["parts"]["workers"]["detail"] == "1 alive; models run in a box of sand"
    assert ready.json()["parts"]["sandbox"]["detail"] == sandbox_of(api.settings).description


def test_without_a_sandbox_no_model_is_looked_through_and_jobs_are_taken(
    settings: Settings, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "_WAYS", ())
    choice._found.cache_clear()
    try:
        with running(settings) as api:
            store.beat("worker-1", 30)
            ready = api.client.get("/readyz")
            assert ready.status_code == 200
            assert not ready.json()["parts"]["sandbox"]["ready"]
            assert api.submit().status_code == 202
            refused = api.client.post("/models/inspect", files={"model": ("net.onnx", small_onnx())})
            assert "SANDBOX=off" in assert_problem(refused, 503, "sandbox_unavailable")
    finally:
        choice._found.cache_clear()


def test_a_store_that_is_away_is_named(settings: Settings) -> None:
    with running(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})) as api:
        response = api.client.get("/readyz")
        assert response.status_code == 503
        assert not response.json()["parts"]["store"]["ready"]
        assert api.client.get("/healthz").status_code == 200


def test_metrics_count_what_happened(api: Api, store: JobStore) -> None:
    api.submit()
    api.submit(density="2")
    api.client.get("/jobs/job_0")
    store.beat("worker-1", 30)
    lines = api.client.get("/metrics").text.splitlines()
    for line in (
        'prunery_http_requests_total{method="POST",route="/jobs",status="202"} 1.0',
        'prunery_http_requests_total{method="GET",route="/jobs/{job_id}",status="404"} 1.0',
        'prunery_jobs{status="queued"} 1.0',
        'prunery_jobs{status="failed"} 0.0',
        'prunery_jobs_refused_total{code="spec_invalid"} 1.0',
        'prunery_job_outcomes{outcome="created"} 1.0',
        "prunery_jobs_submitted_total 1.0",
        "prunery_queue_depth 1.0",
        "prunery_workers 1.0",
    ):
        assert line in lines
    assert any(line.startswith('prunery_uploaded_bytes_total{kind="model"}') for line in lines)
    assert any(line.startswith("prunery_http_request_seconds_bucket") for line in lines)


def test_metrics_show_what_workers_did(api: Api, store: JobStore) -> None:
    store.create(a_job(priority="high"))
    running = store.start(api.submit().json()["id"], "worker-1")
    store.fail(running.id, JobError(code="child_crashed", message=""), attempt=running.attempt)
    store.count(observed("memory", MEMORY_BOUNDS, 3e9))
    lines = api.client.get("/metrics").text.splitlines()
    for line in (
        "prunery_store_up 1.0",
        'prunery_queue_waiting{priority="high",queue="prunery.default"} 1.0',
        'prunery_queue_waiting{priority="low",queue="prunery.gpu"} 0.0',
        'prunery_job_failures_total{code="child_crashed"} 1.0',
        'prunery_job_wait_seconds_bucket{le="+Inf",priority="normal"} 1.0',
        'prunery_job_run_seconds_count{outcome="failed"} 1.0',
        'prunery_child_peak_memory_bytes_bucket{le="4294967296.0"} 1.0',
        'prunery_child_peak_memory_bytes_bucket{le="2147483648.0"} 0.0',
        "prunery_child_peak_memory_bytes_sum 3e+09",
        "prunery_leases_lost_total 0.0",
    ):
        assert line in lines, line
    [oldest] = [line for line in lines if line.startswith("prunery_queue_oldest_seconds ")]
    assert 0 <= float(oldest.split()[1]) < 60
    assert store.get(running.id).request_id is not None


def test_metrics_are_there_while_the_store_is_away(settings: Settings) -> None:
    with running(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})) as api:
        answer = api.client.get("/metrics")
        assert answer.status_code == 200
        assert "prunery_store_up 0.0" in answer.text.splitlines()
        # A zero would look like a store that began anew, and all counts before it like one step.
        for figure in ("prunery_leases_lost_total", "prunery_workers", "prunery_job_wait_seconds_count"):
            assert not re.search(rf"^{figure}\b", answer.text, re.MULTILINE)
    with running(settings) as api:
        assert "prunery_leases_lost_total 0.0" in api.client.get("/metrics").text.splitlines()


def test_metrics_are_there_while_the_store_hangs(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with running(settings.model_copy(update={"redis_url": url})) as api:
            begun = time.monotonic()
            answer = api.client.get("/metrics", timeout=30)
            assert time.monotonic() - begun < 9  # Prometheus waits for ten
            assert answer.status_code == 200
            assert "prunery_store_up 0.0" in answer.text.splitlines()


def test_unknown_paths_share_one_label(api: Api) -> None:
    for number in range(5):
        api.client.get(f"/nothing/{number}")
    assert 'route="none",status="404"} 5.0' in api.client.get("/metrics").text


def test_the_catalogue_is_listed(api: Api) -> None:
    catalogue = api.client.get("/datasets").json()
    assert catalogue["object"] == "list"
    digits = next(entry for entry in catalogue["data"] if entry["name"] == "digits")
    assert digits["available"] is True
