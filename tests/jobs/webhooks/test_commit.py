"""What a job's webhook is told is written together with the move of state that it tells of."""

from __future__ import annotations

import json

import pytest

from jobs import requests
from jobs.record import Job, JobError, JobResult, Status, Webhook
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.webhooks.message import Message, State
from tests.stores import a_job

ALL = ("job.started", "job.succeeded", "job.failed", "job.cancelled")
RESULT = JobResult(density=0.1, metrics={"after": {"accuracy": 99.0}}, artifacts=[])
SECRET = "whsec_c2VjcmV0"


def hooked(store: JobStore, *events: str) -> Job:
    hook = {"url": "https://example.com/hook"} | ({"events": events} if events else {})
    job = a_job(webhook=Webhook.model_validate(hook))
    store.create(job, secret=SECRET)
    return job


def written(store: JobStore, job_id: str) -> list[Message]:
    fields = store._redis.hgetall(store._layout.webhook(job_id))
    assert fields.pop("secret") == SECRET
    found = [Message.model_validate_json(raw) for raw in fields.values()]
    return sorted(found, key=lambda message: message.created_at)


def due(store: JobStore) -> list[str]:
    return list(store._redis.zrange(store._layout.webhooks, 0, -1))


def test_an_end_is_told_and_nothing_else_unless_asked(store: JobStore) -> None:
    job = hooked(store)
    store.start(job.id, "worker-1")
    assert written(store, job.id) == []
    store.succeed(job.id, RESULT)
    (message,) = written(store, job.id)
    assert (message.type, message.state, message.attempts) == ("job.succeeded", State.PENDING, ())
    assert due(store) == [f"{job.id}/{message.id}"]


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
def test_every_end_and_the_start_where_asked(store: JobStore, end: str) -> None:
    job = hooked(store, *ALL)
    store.start(job.id, "worker-1")
    if end == "succeeded":
        store.succeed(job.id, RESULT)
    elif end == "failed":
        store.fail(job.id, JobError(code="engine_failed", message="it failed"))
    else:
        store.request_cancel(job.id)
        store.cancelled(job.id)
    assert [message.type for message in written(store, job.id)] == ["job.started", f"job.{end}"]


def test_a_pause_is_told_where_asked(store: JobStore) -> None:
    job = hooked(store, "job.paused")
    store.request_pause(job.id)
    assert [message.type for message in written(store, job.id)] == ["job.paused"]


def test_a_job_that_is_tried_once_more_is_told_of_once_more(store: JobStore) -> None:
    job = hooked(store)
    for _ in range(2):
        store.start(job.id, "worker-1")
        store.fail(job.id, JobError(code="engine_failed", message="it failed"))
        store.retry(job.id)
    assert [message.type for message in written(store, job.id)] == ["job.failed", "job.failed"]


def test_a_queued_job_that_is_cancelled_is_told_of(store: JobStore) -> None:
    job = hooked(store)
    store.request_cancel(job.id)
    assert [message.type for message in written(store, job.id)] == ["job.cancelled"]


def test_the_payload_is_the_job_s_end_without_what_was_sent(store: JobStore) -> None:
    job = hooked(store)
    store.start(job.id, "worker-1")
    ended = store.succeed(job.id, RESULT)
    told = json.loads(written(store, job.id)[0].payload)
    assert set(told) == {"type", "timestamp", "data"}
    assert told["timestamp"].endswith("Z")
    data = told["data"]
    assert data["id"] == job.id
    assert data["status"] == Status.SUCCEEDED
    assert data["result"] == RESULT.model_dump(mode="json")
    assert data["finished_at"] == ended.model_dump(mode="json")["finished_at"]
    assert SECRET not in json.dumps(told)
    assert not {"spec", "model", "dataset", "webhook"} & set(data)


def test_a_job_without_a_webhook_has_nothing_to_tell(store: JobStore) -> None:
    job = a_job()
    store.create(job)
    store.request_cancel(job.id)
    assert not store._redis.exists(store._layout.webhook(job.id))
    assert due(store) == []


def test_a_move_that_is_written_twice_is_told_once(store: JobStore) -> None:
    job = hooked(store)
    raw, there = store._read(job.id)
    call = store._layout.commit(raw, there, requests.cancel()(there))
    assert store._eval(call)[0] == "ok"
    assert store._eval(call)[0] == "ok"  # its answer was lost on the way
    assert len(written(store, job.id)) == len(due(store)) == 1


def test_a_refused_move_tells_nothing(store: JobStore) -> None:
    job = hooked(store)
    raw, there = store._read(job.id)
    late = store._layout.commit(raw, there, requests.cancel()(there))
    store.start(job.id, "worker-1")
    assert store._eval(late)[0] == "changed"
    assert written(store, job.id) == []


def test_the_secret_is_not_in_the_record_nor_in_the_events(store: JobStore) -> None:
    job = hooked(store)
    store.request_cancel(job.id)
    assert SECRET not in store._redis.get(store._layout.record(job.id))
    assert SECRET not in json.dumps([stored.event for stored in store.events(job.id)])


def test_a_deleted_job_leaves_no_webhook(store: JobStore, settings: Settings) -> None:
    job = hooked(store)
    store.request_cancel(job.id)
    assert store.delete(job.id)
    assert not store._redis.exists(store._layout.webhook(job.id))
