"""Receiving the form of `POST /jobs`: files go on to the artifact store while they come in.

No file is ever whole in this process's memory or on its disk: a chunk comes in, is looked at, hashed and
handed on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import anyio.from_thread
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request

from jobs.artifacts import StoredFile, input_key
from jobs.errors import TooLargeError
from jobs.record import DatasetRef, ModelFile, TokenizerFile
from service.errors import ClientGoneError, FieldInvalidError, FieldRepeatedError
from service.form import FILES, check_name
from service.multipart import MultipartReader, Part, boundary_of
from service.rooms import Rooms
from service.sniffing import DataSniffer, ModelSniffer, ReadRange, TokenizerSniffer

MAX_FIELD_BYTES: Final = 65_536
# One part for every field that there is, and a few more for the message that says so.
MAX_PARTS: Final = 64
# What multipart headers and text fields may add to the files before a body is refused by its length alone.
_MARGIN: Final = 4 * 1024 * 1024
# A zip's members may together be this much larger than the largest file that may be sent.
_UNPACKED: Final = 4
Took = Callable[[int], Awaitable[None]]


class _Sniffer(Protocol):
    def feed(self, chunk: memoryview) -> None: ...


@dataclass
class Form:
    """What has come in so far: text fields by name, and what each file is."""

    fields: dict[str, str] = field(default_factory=dict)
    model: ModelFile | None = None
    dataset: DatasetRef | None = None
    tokenizer: TokenizerFile | None = None


async def receive_form(request: Request, rooms: Rooms, job_id: str, took: Took | None = None) -> Form:
    """Receive the form and store its files under `job_id`.

    Args:
        request: the request.
        rooms: where the files go.
        job_id: the job that they are for.
        took: told of the bytes that come in; what it raises ends the upload.

    Raises:
        MultipartRequiredError, MultipartInvalidError, FormError: the form is not one.
        DiskFullError: there is no room for it.
        ModelError, DataError: a file cannot be what it should be.
        TooLargeError: a file is larger than the settings allow.
        ClientGoneError: the client hung up.
    """
    _check_length(request, rooms)
    said = request.headers.get("content-length", "")
    rooms.artifacts.check_room(int(said[:20]) if said.isascii() and said.isdigit() else 1)
    form = Form()
    async for part in _parts(request, rooms, took):
        await _receive_part(part, form, rooms, job_id)
    return form


async def receive_fingerprint(request: Request, rooms: Rooms) -> str:
    """Receive the form and keep nothing: the fingerprint that it would have (see `fingerprint`).

    Raises:
        MultipartRequiredError, MultipartInvalidError, FormError: the form is not one.
        TooLargeError: a file is larger than the settings allow.
        ClientGoneError: the client hung up.
    """
    most = max(rooms.settings.max_model_bytes, rooms.settings.max_data_bytes)
    fields: dict[str, str] = {}
    files: dict[str, tuple[str, str]] = {}
    async for part in _parts(request, rooms):
        check_name(part.name)
        if part.filename is None:
            fields[part.name] = await part.text(MAX_FIELD_BYTES)
        else:
            files[part.name] = part.filename, await _sha256(part, most)
    return _fingerprint(fields, files)


def fingerprint(form: Form) -> str:
    """Of what is asked for: every text field, and the name and SHA-256 of every file."""
    files = {
        name: (file.filename, file.sha256)
        for name, file in (("model", form.model), ("tokenizer", form.tokenizer))
        if file is not None
    }
    if form.dataset is not None:
        files["dataset"] = form.dataset.name, str(form.dataset.sha256)
    return _fingerprint(form.fields, files)


def _fingerprint(fields: dict[str, str], files: dict[str, tuple[str, str]]) -> str:
    return hashlib.sha256(json.dumps([fields, files], sort_keys=True).encode()).hexdigest()


async def _sha256(part: Part, limit: int) -> str:
    digest, size = hashlib.sha256(), 0
    async for chunk in part.chunks():
        digest.update(chunk)
        size += len(chunk)
        if size > limit:
            raise TooLargeError(f"the file is larger than {limit} bytes", param=part.name)
    return digest.hexdigest()


async def _parts(request: Request, rooms: Rooms, took: Took | None = None) -> AsyncIterator[Part]:
    boundary = boundary_of(request.headers.get("content-type"))
    _check_length(request, rooms)

    async def stream() -> AsyncIterator[bytes]:
        async for chunk in request.stream():
            if took is not None:
                await took(len(chunk))
            yield chunk

    try:
        async for part in MultipartReader(boundary, stream(), max_parts=MAX_PARTS).parts():
            yield part
    except ClientDisconnect:
        raise ClientGoneError("the client hung up before the upload was complete") from None


def _check_length(request: Request, rooms: Rooms) -> None:
    """Refuse a body that says of itself that it is too large, before a byte of it is sent."""
    said = request.headers.get("content-length", "0")
    settings = rooms.settings
    most = settings.max_model_bytes + settings.max_data_bytes + settings.max_tokenizer_bytes + _MARGIN
    if said.isdigit() and int(said[:20]) > most:
        raise TooLargeError(f"the request has {int(said[:20]):,} bytes; at most {most:,} are taken")


async def _receive_part(part: Part, form: Form, rooms: Rooms, job_id: str) -> None:
    check_name(part.name)
    if part.name in form.fields or (part.name in FILES and getattr(form, part.name) is not None):
        raise FieldRepeatedError(f"{part.name} was sent more than once", param=part.name)
    if part.filename is None:
        if part.name in ("model", "tokenizer"):
            raise FieldInvalidError(
                f"{part.name} must be a file with a file name: curl -F {part.name}=@FILE", param=part.name
            )
        form.fields[part.name] = await part.text(MAX_FIELD_BYTES)
    elif part.name == "model":
        form.model = await _receive_model(part, part.filename, rooms, job_id)
    elif part.name == "dataset":
        form.dataset = await _receive_data(part, part.filename, rooms, job_id)
    elif part.name == "tokenizer":
        form.tokenizer = await _receive_tokenizer(part, part.filename, rooms, job_id)
    else:
        raise FieldInvalidError(f"{part.name} must be text and not a file", param=part.name)


async def _receive_model(part: Part, filename: str, rooms: Rooms, job_id: str) -> ModelFile:
    settings, key = rooms.settings, input_key(job_id, "model")
    sniffer = ModelSniffer(filename, allow_torchscript=settings.allow_torchscript)
    stored = await _store(part, sniffer, key, rooms, settings.max_model_bytes)
    found = await anyio.to_thread.run_sync(sniffer.finish, _reader(rooms, key))
    return ModelFile(filename=filename, format=found, bytes=stored.bytes, sha256=stored.sha256)


async def _receive_data(part: Part, filename: str, rooms: Rooms, job_id: str) -> DatasetRef:
    limit, key = rooms.settings.max_data_bytes, input_key(job_id, "data")
    sniffer = DataSniffer(filename, max_unpacked=_UNPACKED * limit)
    stored = await _store(part, sniffer, key, rooms, limit)
    found = await anyio.to_thread.run_sync(sniffer.finish, _reader(rooms, key))
    return DatasetRef(
        source="supplied", name=filename, format=found, bytes=stored.bytes, sha256=stored.sha256
    )


async def _receive_tokenizer(part: Part, filename: str, rooms: Rooms, job_id: str) -> TokenizerFile:
    sniffer, key = TokenizerSniffer(filename), input_key(job_id, "tokenizer")
    stored = await _store(part, sniffer, key, rooms, rooms.settings.max_tokenizer_bytes)
    sniffer.finish()
    return TokenizerFile(filename=filename, bytes=stored.bytes, sha256=stored.sha256)


async def _store(part: Part, sniffer: _Sniffer, key: str, rooms: Rooms, limit: int) -> StoredFile:
    """Hand the part on to the artifact store while `sniffer` watches."""
    counter = rooms.metrics.uploaded.labels(part.name)

    async def watched() -> AsyncIterator[memoryview]:
        async for chunk in part.chunks():
            sniffer.feed(chunk)
            counter.inc(len(chunk))
            yield chunk

    return await rooms.artifacts.put_stream(key, watched(), limit=limit, param=part.name)


def _reader(rooms: Rooms, key: str) -> ReadRange:
    """Reads ranges of a stored file from a worker thread."""

    async def fetch(start: int, length: int) -> bytes:
        return b"".join([chunk async for chunk in rooms.artifacts.stream(key, start, start + length)])

    def read(start: int, length: int) -> bytes:
        return anyio.from_thread.run(fetch, start, length)

    return read
