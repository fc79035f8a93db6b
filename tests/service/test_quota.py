"""The bytes that a key may have stored: kept to before an upload, while it comes in, and by many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from jobs.connection import connect
from jobs.keys import KeyStore, Limits, Scope
from jobs.layout import Layout
from jobs.settings import Settings
from jobs.store import JobStore
from tests.service.conftest import Api, running
from tests.service.samples import assert_problem, small_onnx

MB = 1_000_000
Holder = Callable[[int], dict[str, str]]


@pytest.fixture
def holder(settings: Settings) -> Iterator[Holder]:
    """Headers of a new key that may have so many bytes stored."""
    keys = KeyStore(settings)
    yield lambda most: {
        "Authorization": f"Bearer {keys.create('x', [Scope.JOBS_WRITE], limits=Limits(stored_bytes=most))[1]}"
    }
    keys.close()


def body(size: int) -> Iterator[bytes]:
    """A job whose model has `size` bytes and a little more."""
    varint = bytes([(size >> shift & 0x7F) | 0x80 for shift in (0, 7, 14, 21)]) + bytes([size >> 28 & 0x7F])
    for name, value in (("density", "0.5"), ("dataset", "digits")):
        yield f'--f\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    yield b'--f\r\nContent-Disposition: form-data; name="model"; filename="m.onnx"\r\n\r\n'
    yield small_onnx()[:2] + b"\x3a" + varint
    for _ in range(size // MB):
        yield bytes(MB)
    yield b"\r\n--f--\r\n"


def post(api: Api, headers: dict[str, str], size: int, *, chunked: bool) -> httpx.Response:
    content: Any = body(size) if chunked else b"".join(body(size))
    kind = {"Content-Type": "multipart/form-data; boundary=f"}
    return api.client.post("/jobs", content=content, headers=headers | kind)


def kept(settings: Settings, headers: dict[str, str]) -> tuple[int, int]:
    """Bytes stored, and uploads for which room is kept."""
    redis, layout = connect(settings.require_redis_url()), Layout(settings.redis_prefix, 10)
    key_id = headers["Authorization"].split("_")[1]
    uploads = redis.hlen(f"{settings.redis_prefix}key:{key_id}:uploads")
    return int(redis.hget(layout.stored, key_id) or 0), uploads


@pytest.mark.parametrize("chunked", [False, True])
def test_what_there_is_no_room_for_is_refused_and_nothing_of_it_stays(
    api: Api, settings: Settings, holder: Holder, chunked: bool
) -> None:
    headers = holder(5 * MB)
    assert post(api, headers, 3 * MB, chunked=chunked).status_code == 202
    there = api.stored()
    refused = post(api, headers, 3 * MB, chunked=chunked)
    assert "5,000,000 bytes together" in assert_problem(refused, 429, "storage_exceeded", None)
    assert int(refused.headers["retry-after"]) > 0
    assert api.stored() == there
    stored, uploads = kept(settings, headers)
    assert 3 * MB < stored < 3 * MB + 100
    assert uploads == 0


def test_a_deleted_job_makes_room(api: Api, holder: Holder, store: JobStore) -> None:
    headers = holder(5 * MB)
    job_id = post(api, headers, 4 * MB, chunked=True).json()["id"]
    assert post(api, headers, 4 * MB, chunked=True).status_code == 429
    api.client.post(f"/jobs/{job_id}/cancel", headers=headers)
    assert api.client.delete(f"/jobs/{job_id}", headers=headers).status_code == 204
    assert post(api, headers, 4 * MB, chunked=True).status_code == 202


@pytest.mark.parametrize("chunked", [False, True])
def test_many_at_once_do_not_exceed_it_together(
    api: Api, settings: Settings, holder: Holder, chunked: bool
) -> None:
    headers = holder(10 * MB)
    with running(settings) as other, ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda n: post((api, other)[n % 2], headers, 3 * MB, chunked=chunked), range(8))
        )
    taken = sum(answer.status_code == 202 for answer in answers)
    assert {answer.status_code for answer in answers} <= {202, 429}
    # Uploads that do not say their length may stand in each other's way until none of them fits.
    assert (0 if chunked else 1) <= taken <= 3
    stored, uploads = kept(settings, headers)
    assert taken * 3 * MB <= stored <= 10 * MB
    assert uploads == 0


def test_no_limit_is_no_limit(api: Api, settings: Settings, holder: Holder) -> None:
    headers = holder(0)
    assert post(api, headers, 3 * MB, chunked=True).status_code == 202
    assert kept(settings, headers)[1] == 0
