"""Clients that leave in the middle, send half, or send nonsense: no litter, and the next one is served."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jobs.store import JobStore
from tests.service.conftest import Api
from tests.service.samples import small_onnx

HEAD = b"""POST /jobs HTTP/1.1\r
Host: localhost\r
Content-Type: multipart/form-data; boundary=frontier\r
"""
PART = b'--frontier\r\nContent-Disposition: form-data; name="model"; filename="m.onnx"\r\n\r\n'


@contextmanager
def connected(api: Api) -> Iterator[socket.socket]:
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        yield connection


def big_model() -> bytes:
    """The beginning of an ONNX file that says it goes on for 200 MB."""
    return small_onnx()[:2] + b"\x3a\x80\x84\xaf\x5f" + bytes(20_000_000)


def nothing_stays(api: Api, store: JobStore) -> None:
    until = time.monotonic() + 10
    while api.stored() and time.monotonic() < until:
        time.sleep(0.02)
    assert api.stored() == []
    assert store.page(10) == ([], False)
    assert api.submit().status_code == 202


def stored_something(api: Api) -> None:
    until = time.monotonic() + 10
    while not api.stored():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_hangs_up_in_the_middle_of_an_upload_leaves_nothing(
    api: Api, store: JobStore, reset: bool
) -> None:
    with connected(api) as connection:
        connection.sendall(HEAD + b"Content-Length: 200000000\r\n\r\n" + PART + big_model())
        stored_something(api)
        if reset:
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    nothing_stays(api, store)


def test_a_client_that_hangs_up_between_parts_leaves_nothing(api: Api, store: JobStore) -> None:
    with connected(api) as connection:
        connection.sendall(HEAD + b"Content-Length: 200000000\r\n\r\n")
        connection.sendall(PART + small_onnx() + b"\r\n--frontier\r\n")
        stored_something(api)
    nothing_stays(api, store)


def test_a_body_that_ends_before_its_last_boundary_is_refused(api: Api, store: JobStore) -> None:
    body = PART + small_onnx()
    with connected(api) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"multipart_invalid" in answer
    nothing_stays(api, store)


def test_a_body_that_says_it_is_far_too_large_is_refused_before_it_is_sent(api: Api) -> None:
    with connected(api) as connection:
        connection.sendall(HEAD + b"Content-Length: 10000000000000\r\nExpect: 100-continue\r\n\r\n")
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"file_too_large" in answer


def test_a_refusal_reaches_a_client_that_is_still_sending(api: Api, store: JobStore) -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(30_000_000)
    response = api.submit(png, "picture.onnx")
    assert response.status_code == 422
    assert response.json()["code"] == "model_format_unknown"
    nothing_stays(api, store)


def test_bytes_that_are_no_http_do_no_harm(api: Api, store: JobStore) -> None:
    for junk in (b"\x16\x03\x01\x02\x00" * 100, b"GET\r\n\r\n", b"\x00" * 1000):
        with connected(api) as connection:
            connection.sendall(junk)
            answer = connection.recv(65_536)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    nothing_stays(api, store)
