"""Nobody gets in without a key, and nobody sees another's jobs: every route there is, walked."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from jobs.connection import connect
from jobs.keys import KeyStore, Limits, Scope
from jobs.record import now
from jobs.settings import Settings
from jobs.store import JobStore
from service.app import create_app
from service.caller import needed
from service.routes import events
from tests.service.conftest import Api, running
from tests.service.samples import assert_problem, small_onnx
from tests.stores import a_job

OPEN = {"/", "/docs", "/healthz", "/readyz"}
# Not behind the gate, and nothing of anybody's: the same files for everybody.
PLAIN = {"/openapi.json", "/docs/files"}


def routes() -> list[tuple[str, str]]:
    """Method and path of every operation of the application, documented or not."""
    app = create_app(Settings(_env_file=None))
    found = [route for route in _flat(app.routes) if isinstance(route, APIRoute)]
    assert {route.path for route in _flat(app.routes) if not isinstance(route, APIRoute)} == PLAIN
    return sorted({(method, route.path) for route in found for method in route.methods})


def _flat(given: list[Any]) -> Iterator[Any]:
    for route in given:
        inner = getattr(route, "original_router", None) or getattr(route, "router", None)
        yield from _flat(inner.routes) if inner is not None else [route]


ROUTES = routes()
GUARDED = [(method, path) for method, path in ROUTES if path not in OPEN]


def filled(path: str, job_id: str) -> str:
    return re.sub(r"\{\w+(:\w+)?\}", "x", path.replace("{job_id}", job_id))


@dataclass(frozen=True)
class Doors:
    """An API with keys."""

    api: Api
    keys: KeyStore
    store: JobStore

    def key(self, *scopes: Scope, **more: Any) -> dict[str, str]:
        """Headers with a new key."""
        return {"Authorization": f"Bearer {self.keys.create('test', scopes, **more)[1]}"}

    def ask(self, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
        return self.api.client.request(method, path, headers=headers)


@pytest.fixture
def doors(settings: Settings, store: JobStore) -> Iterator[Doors]:
    keys = KeyStore(settings)
    keys.create("first", [Scope.ADMIN])
    with running(settings) as api:
        yield Doors(api, keys, store)
    keys.close()


def key_id(headers: dict[str, str]) -> str:
    return headers["Authorization"].split("_")[1]


def test_the_routes_are_walked_and_only_these_are_open() -> None:
    assert {("GET", "/jobs/{job_id}"), ("HEAD", "/jobs/{job_id}/model"), ("POST", "/jobs")} <= set(GUARDED)
    assert {path for method, path in ROUTES if needed(path, method) is None} == OPEN


def test_no_route_answers_who_has_no_key_or_the_wrong_one(doors: Doors) -> None:
    job = a_job(owner="somebody")
    doors.store.create(job)
    wrong = {"Authorization": f"Bearer prn_{'a' * 12}_{'b' * 43}"}
    neither = doors.key(Scope.METRICS)
    for method, path in GUARDED:
        where = filled(path, job.id)
        answers = [doors.ask(method, where, headers) for headers in ({}, wrong, {"X-API-Key": "hunter2"})]
        assert [answer.status_code for answer in answers] == [401, 401, 401], (method, path)
        assert answers[0].headers["www-authenticate"] == 'Bearer realm="prunery"'
        if path != "/metrics":
            assert doors.ask(method, where, neither).status_code == 403, (method, path)
    assert doors.store.get(job.id) == job


def test_no_route_tells_a_stranger_that_a_job_is_there(doors: Doors) -> None:
    owner, stranger = (doors.key(Scope.JOBS_WRITE) for _ in range(2))
    job = a_job(owner=key_id(owner))
    none = a_job().id
    doors.store.create(job)
    for method, path in GUARDED:
        if "{job_id}" not in path:
            continue
        there = doors.ask(method, filled(path, job.id), stranger)
        absent = doors.ask(method, filled(path, none), stranger)
        assert there.status_code == absent.status_code == 404, (method, path)
        assert strip(there, job.id) == strip(absent, none), (method, path)
        if method != "HEAD":
            assert there.json()["code"] == "job_not_found"
    assert doors.store.get(job.id) == job
    for method, path in GUARDED:
        if "{job_id}" in path and method == "GET":
            answer = doors.ask(method, filled(path, job.id), owner)
            assert answer.json().get("code") != "job_not_found", (method, path)


def strip(answer: httpx.Response, job_id: str) -> tuple[str, dict[str, str]]:
    """The answer without what differs between any two."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "ratelimit")}
    request_id = headers.pop("x-request-id")
    return answer.text.replace(request_id, "").replace(job_id, ""), headers


def test_a_stranger_s_question_costs_the_store_what_one_for_no_job_costs(
    doors: Doors, settings: Settings
) -> None:
    """So the time of the answer tells nothing either."""
    redis = connect(settings.require_redis_url())
    stranger = doors.key(Scope.JOBS_READ)
    job, none = a_job(owner="somebody"), a_job()
    doors.store.create(job)

    def cost(job_id: str) -> dict[str, int]:
        before = redis.info("commandstats")
        assert doors.ask("GET", f"/jobs/{job_id}", stranger).status_code == 404
        after = redis.info("commandstats")
        calls = {
            name: stats["calls"] - before.get(name, {"calls": 0})["calls"] for name, stats in after.items()
        }
        return {name: count for name, count in calls.items() if count and name != "cmdstat_info"}

    cost(none.id)
    assert cost(job.id) == cost(none.id)


def test_a_list_has_the_caller_s_jobs_only_and_an_admin_s_all(doors: Doors) -> None:
    ann, bob = (doors.key(Scope.JOBS_WRITE) for _ in range(2))
    mine = doors.api.client.post(
        "/jobs",
        files={"model": ("net.onnx", small_onnx())},
        data={"density": "0.5", "dataset": "digits"},
        headers=ann,
    ).json()["id"]
    for number in range(30):
        doors.store.create(a_job(owner=key_id(bob) if number % 2 else None))
    assert doors.store.get(mine).owner == key_id(ann)
    listed = doors.ask("GET", "/jobs?limit=100", ann).json()
    assert ([job["id"] for job in listed["data"]], listed["has_more"]) == ([mine], False)
    assert doors.ask("GET", "/jobs?status=queued", ann).json()["data"][0]["id"] == mine
    assert len(doors.ask("GET", "/jobs?limit=100", bob).json()["data"]) == 15
    admin = doors.key(Scope.ADMIN)
    assert len(doors.ask("GET", "/jobs?limit=100", admin).json()["data"]) == 31
    assert doors.ask("GET", f"/jobs/{mine}", admin).status_code == 200
    assert doors.ask("POST", f"/jobs/{mine}/cancel", admin).status_code == 200


def test_a_reading_key_reads_and_nothing_else(doors: Doors) -> None:
    reader = doors.key(Scope.JOBS_READ)
    job = a_job(owner=key_id(reader))
    doors.store.create(job)
    assert doors.ask("GET", f"/jobs/{job.id}", reader).json()["id"] == job.id
    refused = doors.ask("POST", f"/jobs/{job.id}/cancel", reader)
    assert "jobs:write" in assert_problem(refused, 403, "scope_missing", None)
    assert doors.ask("GET", "/metrics", reader).status_code == 403
    assert doors.ask("GET", "/metrics", doors.key(Scope.METRICS)).status_code == 200
    assert doors.ask("GET", f"/jobs/{job.id}", {"X-API-Key": reader["Authorization"][7:]}).status_code == 200


def test_an_ended_key_is_refused_from_the_next_request_on(doors: Doors) -> None:
    headers = doors.key(Scope.JOBS_READ, expires_at=now() + timedelta(days=1))
    assert doors.ask("GET", "/jobs", headers).status_code == 200
    doors.keys.revoke(key_id(headers))
    refused = doors.ask("GET", "/jobs", headers)
    assert_problem(refused, 401, "key_revoked", None)
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]
    short = doors.key(Scope.JOBS_READ, expires_at=now() + timedelta(seconds=1.5))
    assert doors.ask("GET", "/jobs", short).status_code == 200
    time.sleep(1.6)
    assert_problem(doors.ask("GET", "/jobs", short), 401, "key_expired", None)


def test_who_watches_is_let_go_when_the_key_ends(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PING_SECONDS", 0.2)
    headers = doors.key(Scope.JOBS_READ)
    job = a_job(owner=key_id(headers))
    doors.store.create(job)
    live = {**headers, "Accept": "text/event-stream"}
    with doors.api.client.stream("GET", f"/jobs/{job.id}/events", headers=live) as response:
        lines = response.iter_lines()
        while not next(lines).startswith("data:"):
            pass
        doors.keys.revoke(key_id(headers))
        began = time.monotonic()
        assert not any(line.startswith("data:") for line in lines)
        assert time.monotonic() - began < 10


def test_readiness_tells_a_stranger_no_details(doors: Doors) -> None:
    stranger, known = doors.ask("GET", "/readyz", {}), doors.ask("GET", "/readyz", doors.key(Scope.METRICS))
    assert {part["detail"] for part in stranger.json()["parts"].values()} == {""}
    assert "no worker lives" in known.json()["parts"]["workers"]["detail"]


def test_without_keys_everything_is_open_until_the_first_one_is_made(api: Api, settings: Settings) -> None:
    assert api.submit().status_code == 202
    assert api.client.get("/metrics").status_code == 200
    keys = KeyStore(settings)
    keys.create("first", [Scope.JOBS_READ])
    until = time.monotonic() + 10
    while api.client.get("/jobs").status_code != 401:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert_problem(api.submit(), 401, "key_required", None)
    keys.close()


def test_what_comes_from_elsewhere_needs_a_key_even_where_there_is_none(api: Api, settings: Settings) -> None:
    """As behind a proxy on this machine, or under a server that listens on more than it says."""
    from_elsewhere = {"X-Forwarded-For": "203.0.113.7"}
    assert_problem(api.client.get("/jobs", headers=from_elsewhere), 401, "key_required", None)
    with running(settings.model_copy(update={"trusted_proxies": ("10.1.2.3",)})) as unproxied:
        assert unproxied.client.get("/jobs", headers=from_elsewhere).status_code == 200
    with running(settings.model_copy(update={"auth": "off"})) as off:
        assert off.client.get("/jobs", headers=from_elsewhere).status_code == 200
        assert off.client.get("/jobs", headers={"Authorization": "Bearer x"}).status_code == 200
    with running(settings.model_copy(update={"auth": "required"})) as required:
        assert_problem(required.client.get("/jobs"), 401, "key_required", None)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", ""])
def test_a_name_that_somebody_gave_this_machine_is_refused(api: Api, host: str) -> None:
    assert_problem(api.client.get("/jobs", headers={"Host": host}), 403, "host_not_allowed", None)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "a.localhost"]
)
def test_this_machine_s_own_names_are_taken(api: Api, host: str) -> None:
    assert api.client.get("/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_cannot_submit(api: Api, headers: dict[str, str]) -> None:
    files = {"model": ("net.onnx", small_onnx())}
    fields = {"density": "0.5", "dataset": "digits"}
    for path in ("/jobs", "/models/inspect"):
        refused = api.client.post(path, files=files, data=fields, headers=headers)
        assert_problem(refused, 403, "origin_not_allowed", None)
    assert api.stored() == []
    own = {"Origin": api.url, "Sec-Fetch-Site": "same-origin"}
    assert api.client.post("/jobs", files=files, data=fields, headers=own).status_code == 202


def test_a_service_with_keys_answers_to_the_names_it_was_given(doors: Doors, settings: Settings) -> None:
    headers = doors.key(Scope.JOBS_READ)
    other = {"Host": "prunery.example.org", "Origin": "https://elsewhere.example"}
    assert doors.ask("GET", "/jobs", headers | other).status_code == 200
    with running(settings.model_copy(update={"allowed_hosts": ("prunery.example.org",)})) as api:
        assert api.client.get("/jobs", headers=headers | other).status_code == 200
        assert api.client.get("/jobs", headers=headers | {"Host": "evil.example"}).status_code == 403
        assert api.client.get("/healthz", headers={"Host": "10.0.0.7"}).status_code == 200


def test_a_key_s_requests_are_counted_over_all_processes(doors: Doors, settings: Settings) -> None:
    headers = doors.key(Scope.JOBS_READ, limits=Limits(requests_per_minute=10))
    with running(settings) as other:
        asked = [(doors.api, other)[n % 2].client.get("/jobs", headers=headers) for n in range(30)]
    let_in = [answer for answer in asked if answer.status_code == 200]
    assert 10 <= len(let_in) <= 12  # at the turn of a minute a few more have room
    assert let_in[0].headers["ratelimit-policy"] == '"requests";q=10;w=60'
    assert let_in[0].headers["ratelimit"] == '"requests";r=9'
    refused = next(answer for answer in asked if answer.status_code == 429)
    assert "10 requests a minute" in assert_problem(refused, 429, "requests_exceeded", None)
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    assert doors.ask("GET", "/jobs", doors.key(Scope.JOBS_READ)).status_code == 200


def test_a_key_has_only_so_many_jobs_that_have_not_ended(doors: Doors) -> None:
    headers = doors.key(Scope.JOBS_WRITE, limits=Limits(active_jobs=1))
    sent: dict[str, Any] = {
        "files": {"model": ("net.onnx", small_onnx())},
        "data": {"density": "0.5", "dataset": "digits"},
        "headers": headers,
    }
    first = doors.api.client.post("/jobs", **sent).json()["id"]
    refused = doors.api.client.post("/jobs", **sent)
    assert_problem(refused, 429, "active_jobs_exceeded", None)
    assert int(refused.headers["retry-after"]) > 0
    assert len(doors.api.stored()) == 3  # the first one's model, and its folders
    doors.ask("POST", f"/jobs/{first}/cancel", headers)
    assert doors.api.client.post("/jobs", **sent).status_code == 202
