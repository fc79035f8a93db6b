"""Webhooks over HTTP: asked for with a job, shown without their secret, looked after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.artifacts import ArtifactStore
from jobs.record import JobResult
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.webhooks.outbox import Outbox
from jobs.webhooks.signing import check_secret, new_secret
from tests.service.conftest import Api, running
from tests.service.samples import assert_problem, small_onnx
from worker.inputs import write_inputs

URL = "https://hooks.example.com/prunery?token=t0k3n"


@pytest.fixture
def hooked(settings: Settings) -> Iterator[Api]:
    with running(settings.model_copy(update={"webhooks": True})) as api:
        yield api


def ended(api: Api, store: JobStore, **fields: str) -> str:
    job_id: str = api.submit(webhook=URL, **fields).json()["id"]
    store.start(job_id, "worker-1")
    store.succeed(job_id, JobResult(density=0.5, metrics={}, artifacts=[]))
    return job_id


def deliveries(api: Api, job_id: str) -> list[dict[str, Any]]:
    answer = api.client.get(f"/jobs/{job_id}/webhook/deliveries")
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def test_webhooks_are_off_unless_set_and_nothing_of_the_job_stays(api: Api) -> None:
    assert_problem(api.submit(webhook=URL), 422, "webhooks_off", "webhook")
    assert api.stored() == []
    assert api.client.get("/jobs").json()["data"] == []


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"webhook": "http://example.com/"}, "outgoing_refused", "webhook"),
        ({"webhook": "https://169.254.169.254/"}, "outgoing_refused", "webhook"),
        ({"webhook": "https://[::ffff:10.0.0.1]/"}, "outgoing_refused", "webhook"),
        ({"webhook": URL, "webhook_secret": "hunter2"}, "webhook_invalid", "webhook_secret"),
        ({"webhook": URL, "webhook_events": "everything"}, "webhook_invalid", "webhook_events"),
        ({"webhook_events": "job.failed"}, "webhook_invalid", "webhook_events"),
    ],
)
def test_a_webhook_that_cannot_be_used_refuses_the_job(
    hooked: Api, fields: dict[str, str], code: str, param: str
) -> None:
    for query in ("", "?validate_only=true"):
        answer = hooked.client.post(
            f"/jobs{query}",
            files={"model": ("net.onnx", small_onnx())},
            data={"density": "0.5", "dataset": "digits"} | fields,
        )
        assert_problem(answer, 422, code, param)
    assert hooked.stored() == []


def test_a_new_secret_is_in_the_answer_and_never_again(hooked: Api, store: JobStore) -> None:
    answer = hooked.submit(webhook=URL).json()
    job_id = answer["id"]
    secret = check_secret(answer["webhook"]["secret"])
    assert answer["webhook"]["url"] == URL
    assert answer["webhook"]["events"] == ["job.succeeded", "job.failed", "job.cancelled"]
    for path in (f"/jobs/{job_id}", f"/jobs/{job_id}?wait=0.01", "/jobs", answer["webhook"]["deliveries"]):
        assert secret not in hooked.client.get(path).text
    assert hooked.client.get(f"/jobs/{job_id}").json()["webhook"]["secret"] is None
    assert secret not in hooked.client.get(f"/jobs/{job_id}/events").text
    assert secret not in hooked.client.post(f"/jobs/{job_id}/cancel").text


def test_a_secret_that_was_sent_signs_the_messages(hooked: Api, store: JobStore, settings: Settings) -> None:
    secret = new_secret()
    job_id = ended(hooked, store, webhook_secret=secret)
    outbox = Outbox(settings)
    (claimed,) = outbox.claim(10, 60)
    outbox.close()
    assert (claimed.job_id, claimed.secret, claimed.webhook.url) == (job_id, secret, URL)


def test_deliveries_are_listed_and_sent_again(hooked: Api, store: JobStore, settings: Settings) -> None:
    job_id = ended(hooked, store, webhook_events="job.started,job.succeeded")
    started, succeeded = deliveries(hooked, job_id)
    assert (started["type"], succeeded["type"]) == ("job.started", "job.succeeded")
    assert (succeeded["status"], succeeded["attempts"]) == ("pending", [])
    assert succeeded["next_attempt_at"]
    sent = hooked.client.post(succeeded["links"]["send"])
    assert sent.status_code == 202
    assert sent.json()["id"] == succeeded["id"]
    outbox = Outbox(settings)
    assert len(outbox.claim(10, 60)) == 2
    outbox.close()
    assert_problem(hooked.client.post(succeeded["links"]["send"]), 409, "delivery_in_progress", None)


def test_what_is_not_there_is_not_found(hooked: Api, store: JobStore) -> None:
    plain = hooked.submit().json()
    assert plain["webhook"] is None
    for job_id, code in ((plain["id"], "webhook_not_found"), ("job_none", "job_not_found")):
        here = f"/jobs/{job_id}/webhook/deliveries"
        assert_problem(hooked.client.get(here), 404, code, "job_id")
        assert_problem(hooked.client.post(f"{here}/msg_0/send"), 404, code, "job_id")
    job_id = ended(hooked, store)
    for name in ("msg_0", "secret", "gone"):
        answer = hooked.client.post(f"/jobs/{job_id}/webhook/deliveries/{name}/send")
        assert_problem(answer, 404, "delivery_not_found", "delivery_id")


def test_a_service_that_no_longer_tells_sends_nothing_again(
    hooked: Api, store: JobStore, settings: Settings
) -> None:
    job_id = ended(hooked, store)
    send = deliveries(hooked, job_id)[0]["links"]["send"]
    with running(settings) as silent:
        assert_problem(silent.client.post(send), 422, "webhooks_off", "webhook")
        assert len(deliveries(silent, job_id)) == 1


def test_metrics_tell_of_messages(hooked: Api, store: JobStore) -> None:
    ended(hooked, store)
    assert "prunery_webhooks_waiting 1.0" in hooked.client.get("/metrics").text
    store._redis.hincrby(store._layout.counters, "webhook:failed", 3)
    assert 'prunery_webhook_attempts{outcome="failed"} 3.0' in hooked.client.get("/metrics").text


def test_the_child_s_folder_has_no_trace_of_the_webhook(
    hooked: Api, store: JobStore, settings: Settings, tmp_path: Path
) -> None:
    secret = new_secret()
    job_id = hooked.submit(webhook=URL, webhook_secret=secret).json()["id"]
    folder = tmp_path / "child"
    folder.mkdir()
    write_inputs(store.get(job_id), folder, ArtifactStore(settings), settings, lambda: None)
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for word in (secret, "t0k3n", "hooks.example.com"):
        assert word.encode() not in written
