"""The multipart reader: any parts, in any pieces, come out as they were sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import FieldInvalidError, FieldTooLargeError, MultipartInvalidError
from service.multipart import MultipartReader, boundary_of

BOUNDARY = b"frontier"

# Bytes that look like boundaries are the interesting ones.
_pieces = st.sampled_from([b"\r\n", b"--", b"\r\n--frontier", b"--frontier", b"\r", b"-", b"x", b"\x00\xff"])
_contents = st.lists(_pieces, max_size=12).map(b"".join).filter(lambda body: b"\r\n--frontier" not in body)
_names = st.sampled_from(["model", "dataset", "density", "spec"])
_files = st.one_of(st.none(), st.sampled_from(["m.onnx", "ü.onnx", 'a"b.onnx']))


def encode(parts: list[tuple[str, str | None, bytes]]) -> bytes:
    body = b""
    for name, filename, content in parts:
        quoted = "" if filename is None else '; filename="{}"'.format(filename.replace('"', '\\"'))
        body += b"--" + BOUNDARY + b"\r\n"
        body += f'Content-Disposition: form-data; name="{name}"{quoted}\r\n\r\n'.encode()
        body += content + b"\r\n"
    return body + b"--" + BOUNDARY + b"--\r\n"


async def stream(body: bytes, sizes: list[int]) -> AsyncIterator[bytes]:
    at = 0
    while at < len(body):
        size = sizes[at % len(sizes)]
        yield body[at : at + size]
        at += size


def read(body: bytes, sizes: list[int], max_parts: int = 20) -> list[tuple[str, str | None, bytes]]:
    async def run() -> list[tuple[str, str | None, bytes]]:
        reader = MultipartReader(BOUNDARY, stream(body, sizes), max_parts=max_parts)
        return [
            (part.name, part.filename, b"".join([chunk async for chunk in part.chunks()]))
            async for part in reader.parts()
        ]

    return asyncio.run(run())


@given(
    parts=st.lists(st.tuples(_names, _files, _contents), min_size=1, max_size=4),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
)
def test_parts_come_out_as_they_were_sent_however_the_body_is_cut(
    parts: list[tuple[str, str | None, bytes]], sizes: list[int]
) -> None:
    assert read(encode(parts), sizes) == parts


@given(cut=st.integers(0, 150), sizes=st.lists(st.integers(1, 40), min_size=1, max_size=3))
def test_a_body_that_ends_early_is_refused(cut: int, sizes: list[int]) -> None:
    body = encode([("model", "m.onnx", b"0" * 40), ("density", None, b"0.5")])
    end = body.rindex(b"--\r\n") + 2
    with pytest.raises(MultipartInvalidError):
        read(body[: min(cut, end - 1)], sizes)


def test_an_unread_part_is_skipped() -> None:
    async def run() -> list[str]:
        body = encode([("model", "m.onnx", b"1" * 100), ("density", None, b"0.5")])
        reader = MultipartReader(BOUNDARY, stream(body, [7]), max_parts=4)
        return [part.name async for part in reader.parts()]

    assert asyncio.run(run()) == ["model", "density"]


def test_too_many_parts_are_refused() -> None:
    with pytest.raises(MultipartInvalidError, match="more than 3 parts"):
        read(encode([("density", None, b"1")] * 5), [50], max_parts=3)


def test_a_part_without_a_name_is_refused() -> None:
    body = b"--frontier\r\nContent-Type: text/plain\r\n\r\nx\r\n--frontier--\r\n"
    with pytest.raises(MultipartInvalidError, match="name="):
        read(body, [50])


def test_headers_without_an_end_are_refused() -> None:
    body = b"--frontier\r\nContent-Disposition: " + b"a" * 100_000
    with pytest.raises(MultipartInvalidError):
        read(body, [1000])


def test_a_file_name_loses_its_folders_and_control_characters() -> None:
    body = encode([("model", "../../etc/pass\x01wd", b"")])
    assert read(body, [50]) == [("model", "passwd", b"")]


@pytest.mark.parametrize(
    ("content", "error"), [(b"\xff\xfe", FieldInvalidError), (b"1" * 11, FieldTooLargeError)]
)
def test_text_is_bounded_and_utf8(content: bytes, error: type[Exception]) -> None:
    async def run() -> None:
        reader = MultipartReader(BOUNDARY, stream(encode([("density", None, content)]), [5]), max_parts=4)
        async for part in reader.parts():
            await part.text(10)

    with pytest.raises(error):
        asyncio.run(run())


@pytest.mark.parametrize("header", ["multipart/form-data", "multipart/form-data; boundary=" + "b" * 71])
def test_a_boundary_must_be_usable(header: str) -> None:
    with pytest.raises(MultipartInvalidError, match="boundary"):
        boundary_of(header)
