"""Idempotency-Key: however often a submission is sent, its job is made once."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from jobs.conditions import Conditions
from jobs.connection import connect
from jobs.errors import StoreUnavailableError
from jobs.keys import KeyStore, Scope
from jobs.record import Job
from jobs.settings import Settings
from jobs.store import JobStore
from tests.service.conftest import Api, running
from tests.service.samples import assert_problem, npz, small_onnx
from tests.service.test_process import process

FIELDS = {"density": "0.5", "dataset": "digits"}
HEADER = "Idempotency-Key"


def post(client: httpx.Client, key: str, **more: Any) -> httpx.Response:
    sent: dict[str, Any] = {
        "files": {"model": ("net.onnx", small_onnx())},
        "data": FIELDS,
        "headers": {HEADER: key},
    }
    return client.post("/jobs", **(sent | more))


def ids(store: JobStore) -> list[str]:
    return [job.id for job in store.page(100)[0]]


def test_a_request_that_is_sent_again_gets_the_first_one_s_answer(
    api: Api, settings: Settings, store: JobStore
) -> None:
    first = post(api.client, "a" * 255)
    assert first.status_code == 202
    assert "idempotency-replayed" not in first.headers
    store.start(first.json()["id"])
    with running(settings) as other:
        for client in (api.client, other.client):
            again = post(client, "a" * 255)
            assert (again.status_code, again.content) == (202, first.content)
            assert again.headers["location"] == first.headers["location"]
            assert again.headers["idempotency-replayed"] == "true"
    assert ids(store) == [first.json()["id"]]
    assert [path.name for path in api.artifacts.iterdir()] == ids(store)
    assert post(api.client, "another").json()["id"] != first.json()["id"]


@pytest.mark.parametrize(
    "other",
    [
        {"data": FIELDS | {"density": "0.4"}},
        {"data": FIELDS | {"seed": "1"}},
        {"files": {"model": ("other.onnx", small_onnx())}},
        {"files": {"model": ("net.onnx", small_onnx() + b"\x00")}},
        {
            "data": {"density": "0.5"},
            "files": {
                "model": ("net.onnx", small_onnx()),
                "dataset": ("d.npz", npz(x=[[1.0] * 4], y=[0])),
            },
        },
    ],
    ids=["field", "one more field", "name", "content", "data"],
)
def test_another_request_with_the_same_key_is_refused(
    api: Api, store: JobStore, other: dict[str, Any]
) -> None:
    first = post(api.client, "k")
    refused = post(api.client, "k", **other)
    assert first.json()["id"] in assert_problem(refused, 422, "idempotency_key_reused", HEADER)
    assert len(ids(store)) == 1
    assert [path.name for path in api.artifacts.iterdir()] == ids(store)


def test_of_many_at_once_one_makes_the_job(api: Api, settings: Settings, store: JobStore) -> None:
    with running(settings) as other, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda n: post((api, other)[n % 2].client, "k"), range(12)))
    codes = {answer.status_code for answer in answers}
    assert codes <= {202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    assert len(ids(store)) == 1
    for answer in answers:
        if answer.status_code == 409:
            assert_problem(answer, 409, "idempotency_key_in_use", None)
            assert int(answer.headers["retry-after"]) > 0


def test_a_refused_request_has_not_spent_its_key(api: Api, store: JobStore) -> None:
    for wrong in ({"data": FIELDS | {"density": "2"}}, {"files": {"model": ("net.onnx", b"GIF89a")}}):
        assert post(api.client, "k", **wrong).status_code == 422
    assert post(api.client, "k").status_code == 202
    assert len(ids(store)) == 1


@pytest.mark.parametrize("key", ["", "a" * 256, "a b", "ä"])
def test_a_malformed_key_is_refused(api: Api, store: JobStore, key: str) -> None:
    headers = [(HEADER.encode(), key.encode("latin-1"))]
    refused = api.client.post(
        "/jobs", files={"model": ("net.onnx", small_onnx())}, data=FIELDS, headers=headers
    )
    assert_problem(refused, 400, "idempotency_key_invalid", HEADER)
    assert ids(store) == []


def test_two_keys_at_once_are_refused(api: Api) -> None:
    headers = [(HEADER.encode(), b"a"), (HEADER.encode(), b"b")]
    refused = api.client.post(
        "/jobs", files={"model": ("net.onnx", small_onnx())}, data=FIELDS, headers=headers
    )
    assert_problem(refused, 400, "idempotency_key_invalid", HEADER)


def test_each_owner_has_its_own(settings: Settings, store: JobStore) -> None:
    keys = KeyStore(settings)
    tokens = [str(keys.create(name, [Scope.JOBS_WRITE])[1]) for name in ("ann", "bob")]
    keys.close()
    with running(settings) as api:
        answers = [
            post(api.client, "k", headers={HEADER: "k", "Authorization": f"Bearer {token}"})
            for token in (*tokens, *tokens)
        ]
    assert [answer.status_code for answer in answers] == [202] * 4
    assert len({answer.json()["id"] for answer in answers}) == 2
    assert [answer.headers.get("idempotency-replayed") for answer in answers] == [None, None, "true", "true"]


@pytest.fixture
def claims(settings: Settings) -> Iterator[Any]:
    redis = connect(settings.require_redis_url())
    yield redis
    redis.close()


def the_claim(redis: Any, settings: Settings) -> str:
    [name] = redis.scan_iter(f"{settings.redis_prefix}claim:*")
    return str(name)


def test_a_crash_before_the_answer_was_noted_changes_nothing(
    api: Api, settings: Settings, store: JobStore, claims: Any
) -> None:
    first = post(api.client, "k").json()
    name = the_claim(claims, settings)
    assert 86_000 < claims.ttl(name) <= 86_400
    outcome = json.loads(claims.get(name))
    del outcome["answer"]
    claims.set(name, json.dumps(outcome), keepttl=True)
    again = post(api.client, "k")
    assert (again.status_code, again.json()) == (202, first)
    assert len(ids(store)) == 1


def test_a_process_that_is_killed_in_the_middle_frees_the_key_soon(
    settings: Settings, store: JobStore, claims: Any
) -> None:
    with process(settings) as (started, url):
        address = httpx.URL(url)
        head = "POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\nIdempotency-Key: k\r\n"
        head += "Content-Type: multipart/form-data; boundary=f\r\n\r\n--f\r\n"
        with socket.create_connection((address.host, address.port or 0)) as connection:
            connection.sendall(head.encode())
            until = time.monotonic() + 20
            while not list(claims.scan_iter(f"{settings.redis_prefix}claim:*")):
                assert time.monotonic() < until
                time.sleep(0.02)
            started.kill()
            started.wait(10)
    name = the_claim(claims, settings)
    assert 0 < claims.pttl(name) <= 30_000
    with running(settings) as other:
        assert_problem(post(other.client, "k"), 409, "idempotency_key_in_use", None)
        claims.pexpire(name, 1)
        time.sleep(0.05)
        assert post(other.client, "k").status_code == 202
    assert len(ids(store)) == 1


def test_a_request_that_lost_its_claim_makes_nothing(
    api: Api, settings: Settings, store: JobStore, claims: Any
) -> None:
    """As a process that stood still for longer than its lease."""

    def body() -> Iterator[bytes]:
        yield b'--f\r\nContent-Disposition: form-data; name="density"\r\n\r\n0.5\r\n--f\r\n'
        until = time.monotonic() + 20
        while not list(claims.scan_iter(f"{settings.redis_prefix}claim:*")):
            assert time.monotonic() < until
            time.sleep(0.02)
        claims.set(the_claim(claims, settings), "running:another", px=60_000)
        yield b'Content-Disposition: form-data; name="dataset"\r\n\r\ndigits\r\n--f\r\n'
        yield b'Content-Disposition: form-data; name="model"; filename="net.onnx"\r\n\r\n'
        yield small_onnx() + b"\r\n--f--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=f", HEADER: "k"}
    refused = api.client.post("/jobs", content=body(), headers=headers)
    assert_problem(refused, 409, "idempotency_key_in_use", None)
    assert ids(store) == []
    assert api.stored() == []
    assert claims.get(the_claim(claims, settings)) == "running:another"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StoreUnavailableError("the job store does not answer"), 503, "store_unavailable"),
        (RuntimeError("it broke"), 500, "internal_error"),
    ],
)
def test_a_job_whose_making_was_not_confirmed_keeps_its_files_and_is_found_again(
    error: Exception, status: int, code: str, api: Api, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has the record, and the connection breaks before it says so, or something else does."""
    jobs = api.server._app.state.rooms.store
    create = jobs.create

    async def unheard(job: Job, conditions: Conditions, **more: Any) -> None:
        await create(job, conditions, **more)
        raise error

    monkeypatch.setattr(jobs, "create", unheard)
    assert_problem(post(api.client, "k"), status, code, None)
    monkeypatch.undo()
    [job_id] = ids(store)
    assert (api.artifacts / job_id / "input" / "model").exists()
    again = post(api.client, "k")
    assert (again.status_code, again.json()["id"]) == (202, job_id)
    assert again.headers["idempotency-replayed"] == "true"
