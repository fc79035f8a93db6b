"""A job's events, as a list and live."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from jobs.record import JobError
from jobs.store import JobStore
from service.routes import events
from tests.service.conftest import Api
from tests.service.samples import assert_problem

LIVE = {"Accept": "text/event-stream"}


def frames(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The events on the wire, and pings as `{"ping": True}`."""
    frame: dict[str, Any] = {}
    for line in response.iter_lines():
        if line.startswith(":"):
            yield {"ping": True}
        elif line:
            name, _, value = line.partition(": ")
            frame[name] = value
        elif "data" in frame:
            yield {"id": frame["id"], "event": frame["event"], **json.loads(frame["data"])}
            frame = {}


def test_events_are_listed_page_by_page(api: Api, store: JobStore) -> None:
    job_id = api.submit().json()["id"]
    store.start(job_id)
    for number in range(5):
        store.append_event(job_id, {"type": "warning", "time": 1.0, "message": f"{number}"})
    page = api.client.get(f"/jobs/{job_id}/events?limit=3").json()
    assert (page["object"], page["has_more"]) == ("list", True)
    assert [event["type"] for event in page["data"]] == ["status", "status", "warning"]
    last = page["data"][-1]["id"]
    rest = api.client.get(f"/jobs/{job_id}/events?after={last}").json()
    assert [event["message"] for event in rest["data"]] == ["1", "2", "3", "4"]
    assert rest["has_more"] is False
    assert_problem(api.client.get(f"/jobs/{job_id}/events?after=abc"), 422, "event_id_invalid", "after")
    assert_problem(api.client.get("/jobs/job_0/events"), 404, "job_not_found", "job_id")


def test_the_stream_has_every_event_and_ends_with_the_job(api: Api, store: JobStore) -> None:
    job_id = api.submit().json()["id"]

    def work() -> None:
        time.sleep(0.2)
        store.start(job_id)
        store.append_event(job_id, {"type": "stage", "time": 1.0, "stage": "pruning", "message": ""})
        store.fail(job_id, JobError(code="x", message="y"))

    threading.Thread(target=work).start()
    with api.client.stream("GET", f"/jobs/{job_id}/events", headers=LIVE) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        seen = list(frames(response))
    assert [(event["event"], event.get("status")) for event in seen] == [
        ("status", "queued"),
        ("status", "running"),
        ("stage", None),
        ("status", "failed"),
    ]
    assert [event["id"] for event in seen] == [
        event["id"] for event in api.client.get(f"/jobs/{job_id}/events").json()["data"]
    ]
    with api.client.stream(
        "GET", f"/jobs/{job_id}/events", headers=LIVE | {"Last-Event-ID": seen[1]["id"]}
    ) as response:
        assert [event["id"] for event in frames(response)] == [seen[2]["id"], seen[3]["id"]]
    again = api.client.get(f"/jobs/{job_id}/events", headers=LIVE | {"Last-Event-ID": seen[3]["id"]})
    assert again.status_code == 204


def test_a_quiet_stream_is_kept_alive_and_ends_with_the_server(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PING_SECONDS", 0.1)
    job_id = api.submit().json()["id"]
    with api.client.stream("GET", f"/jobs/{job_id}/events", headers=LIVE) as response:
        reading = frames(response)
        assert next(reading)["status"] == "queued"
        assert next(reading) == {"ping": True}
        assert next(reading) == {"ping": True}
        api.server.handle_exit(15, None)
        assert all("ping" in frame for frame in reading)


def test_what_can_be_refused_is_refused_before_the_stream_begins(api: Api) -> None:
    job_id = api.submit().json()["id"]
    assert_problem(api.client.get("/jobs/job_0/events", headers=LIVE), 404, "job_not_found", "job_id")
    wrong = api.client.get(f"/jobs/{job_id}/events", headers=LIVE | {"Last-Event-ID": "abc"})
    assert_problem(wrong, 422, "event_id_invalid", "after")


def test_clients_that_leave_a_stream_leave_nothing_behind(api: Api) -> None:
    job_id = api.submit().json()["id"]
    changes = api.server.config.app.state.rooms.store._changes
    for _ in range(20):
        with api.client.stream("GET", f"/jobs/{job_id}/events", headers=LIVE) as response:
            next(frames(response))
    until = time.monotonic() + 5
    while changes._bells and time.monotonic() < until:
        time.sleep(0.02)
    assert not changes._bells
