"""The store of files: uploads and results, in a local folder or an object store, by URL alone.

Keys are `<job>/input/model`, `<job>/input/data`, `<job>/input/tokenizer`, `<job>/output/<attempt>/<name>` and
`<job>/checkpoint/<attempt>-<number>/<name>`: no two runs write to the same key, so one that was given up
cannot write over another's files. The store knows names and bytes only; which keys count, and the size and
SHA-256 of each file, is in the job's record.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import obstore
from obstore.exceptions import BaseError

from jobs.disk import check_room, is_full
from jobs.errors import ArtifactNotFoundError, ArtifactsUnavailableError, DiskFullError, TooLargeError
from jobs.filenames import SavedAs
from jobs.local_file import LocalFile
from jobs.object_store import (
    PART,
    PARTS_IN_FLIGHT,
    Upload,
    holds_headers,
    is_a_clouds_own,
    local_folder,
    open_signer,
    open_store,
    part_size,
    reason,
)
from jobs.record import Artifact
from jobs.settings import Settings

_WRITE = 1024 * 1024
# What is gathered for a write, of all uploads together; each has 64 KiB at least.
_WRITES = 16 * _WRITE
_LOOK_EVERY = 0.5
# Seconds that a download which has begun waits for a store that is away.
_STREAM_PATIENCE = 45.0
T = TypeVar("T")
Write = Callable[[bytes], Coroutine[Any, Any, None]]


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredFile:
    """What was written: its size and SHA-256 (hex)."""

    bytes: int
    sha256: str


def input_key(job_id: str, name: str) -> str:
    """Key of an input: "model", "data" or "tokenizer"."""
    return f"{job_id}/input/{name}"


def output_key(job_id: str, attempt: int, name: str) -> str:
    """Key of an output that a run left: its path below `out/`."""
    return f"{outputs_prefix(job_id)}/{attempt}/{name}"


def key_of(job_id: str, file: Artifact) -> str:
    """Where an output of a job is; those of older records have no run in their key."""
    return file.key or f"{outputs_prefix(job_id)}/{file.name}"


def outputs_prefix(job_id: str) -> str:
    """Where every run's outputs are."""
    return f"{job_id}/output"


def checkpoint_key(job_id: str, attempt: int, number: int, name: str) -> str:
    """Key of a file of a run's checkpoint, of which it is the `number`th."""
    return f"{checkpoints_prefix(job_id)}/{attempt}-{number}/{name}"


def checkpoints_prefix(job_id: str) -> str:
    """Where every run's checkpoints are."""
    return f"{job_id}/checkpoint"


class ArtifactStore:
    """Files by key. Async verbs serve the API, which streams; sync ones the worker, which has local files.

    Every method raises ArtifactsUnavailableError when the store fails.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = local_folder(settings.artifacts)
        self._store = open_store(settings)
        self._uploads = 0
        self._signer = open_signer(settings, self._store)

    async def put_stream(
        self,
        key: str,
        chunks: AsyncIterable[bytes | memoryview],
        *,
        limit: int | None = None,
        param: str | None = None,
    ) -> StoredFile:
        """Write `chunks` as they come. Nothing stays when the caller is cancelled or `chunks` raises.

        Raises:
            TooLargeError: more than `limit` bytes came; `param` names what is too large.
            DiskFullError: a local folder has no room but the reserve, before or while they come.
        """
        self.check_room()
        digest, size = hashlib.sha256(), 0
        loop = asyncio.get_running_loop()
        busy: list[asyncio.Future[Any]] = []
        try:
            async with contextlib.AsyncExitStack() as stack:
                write = await self._writer(key, stack, limit)
                stack.push_async_callback(_settled, key, busy)
                stack.enter_context(self._uploading())
                async for chunk in _gathered(chunks, lambda: self._write_size):
                    size += len(chunk)
                    if limit is not None and size > limit:
                        raise TooLargeError(f"the file is larger than {limit} bytes", param=param)
                    self.check_room(len(chunk))
                    # A chunk is hashed in one thread and written in another while the next one comes in.
                    await _settled(key, busy)
                    busy.append(loop.run_in_executor(None, digest.update, chunk))
                    busy.append(asyncio.ensure_future(write(chunk)))
                await _settled(key, busy)
                with _failures(key):
                    await stack.aclose()  # the file is there, whole, from here on
        except BaseException:
            self._tidy(key)
            raise
        return StoredFile(size, digest.hexdigest())

    @contextlib.contextmanager
    def _uploading(self) -> Iterator[None]:
        """The more uploads there are, the less is gathered for each."""
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

    @property
    def _write_size(self) -> int:
        return max(_WRITE // 16, min(_WRITE, _WRITES // max(1, self._uploads)))

    def check_room(self, wanted: int = 1) -> None:
        """See that an upload of so many bytes leaves the reserve free; a bucket has room for any.

        Raises:
            DiskFullError: it does not.
        """
        if self._folder is not None:
            with _failures("room"):
                check_room(self._folder, self._settings.min_free_bytes, wanted)

    @property
    def folder(self) -> Path | None:
        """The local folder; None: the files are in a bucket."""
        return self._folder

    async def _writer(self, key: str, stack: contextlib.AsyncExitStack, limit: int | None) -> Write:
        """What appends to the file; the file is complete when `stack` is closed."""
        with _failures(key):
            if self._folder is not None:
                file = stack.enter_context(LocalFile(self._folder / key))

                async def write(chunk: bytes) -> None:
                    await asyncio.to_thread(file.write, chunk)

                return write
            upload = await stack.enter_async_context(Upload(self._store, key, limit))
            return upload.write

    async def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `end` (default: all), in parts of 5 MiB at most.

        Raises:
            ArtifactNotFoundError: there is no such file.
        """
        size = await self.head(key)
        end = size if end is None else min(end, size)
        for first, last in _parts(start, end):
            yield await self._part(key, first, last)

    async def _part(self, key: str, start: int, end: int) -> bytes:
        """A part of a file on its way to somebody: a store that is away for a moment is waited for."""
        until = time.monotonic() + _STREAM_PATIENCE
        while True:
            try:
                with _failures(key):
                    return bytes(await obstore.get_range_async(self._store, key, start=start, end=end))
            except ArtifactsUnavailableError as error:
                if self._folder is not None or time.monotonic() > until:
                    raise
                log.warning("a download waits: %s", error)
            await asyncio.sleep(1.0)

    async def download_url(self, key: str) -> str | None:
        """An address that whoever has it can fetch the file from for a while; None where there is none.

        It is a secret as long as it is good: do not log it.
        """
        if self._signer is None:
            return None
        lifetime = timedelta(seconds=self._settings.presign_seconds)
        with _failures(key):
            url = await obstore.sign_async(self._signer, "GET", key, lifetime)
        return url if self._settings.presign_endpoint or is_a_clouds_own(url) else None

    async def head(self, key: str) -> int:
        """The file's size.

        Raises:
            ArtifactNotFoundError: there is no such file.
        """
        with _failures(key):
            return (await obstore.head_async(self._store, key))["size"]

    async def delete_prefix(self, prefix: str) -> int:
        """Delete every file of a job (or below any prefix); how many there were."""
        deleted = 0
        with _failures(prefix):
            async for batch in obstore.list(self._store, prefix=f"{prefix}/"):
                paths = [item["path"] for item in batch]
                await obstore.delete_async(self._store, paths)
                deleted += len(paths)
        return deleted

    async def ping(self) -> None:
        """Return when the store answers and has the bucket; asking for a file would not notice that."""
        with _failures("ping/"):
            await obstore.list_with_delimiter_async(self._store, prefix="ping")

    def put_file(self, key: str, path: Path, saved_as: SavedAs | None = None) -> StoredFile:
        """Write a local file. Tried for some seconds; who can wait longer calls again.

        Args:
            key: where.
            path: the file.
            saved_as: what a client that fetches it straight from the store shall save it as.
        """
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            size = file.tell()
        with _failures(key):
            obstore.put(
                self._store,
                key,
                path,
                attributes=saved_as.headers() if saved_as and holds_headers(self._store) else None,
                chunk_size=part_size(size),
                max_concurrency=PARTS_IN_FLIGHT,
            )
        return StoredFile(size, digest.hexdigest())

    def fetch_file(self, key: str, path: Path, between: Callable[[], None] = lambda: None) -> None:
        """Copy a file to `path`. Not a link: what runs there must not be able to change what is stored.

        A store that is away is waited for as long as the settings say.

        Args:
            key: the file.
            path: where it goes.
            between: called between the parts of a long copy and while it waits; what it raises ends the copy.

        Raises:
            ArtifactNotFoundError: there is no such file.
        """
        size = self._patiently(key, lambda: obstore.head(self._store, key)["size"], between)
        with path.open("wb") as file:
            for start, end in _parts(0, size):
                part = partial(obstore.get_range, self._store, key, start=start, end=end)
                file.write(self._patiently(key, part, between))
                between()

    def keys(self, prefix: str) -> list[str]:
        """The keys of all files below a prefix."""
        with _failures(prefix):
            return [
                item["path"] for batch in obstore.list(self._store, prefix=f"{prefix}/") for item in batch
            ]

    def delete_files(self, keys: Iterable[str]) -> None:
        """Delete files; one that is not there is none."""
        for key in keys:
            with contextlib.suppress(ArtifactNotFoundError), _failures(key):
                obstore.delete(self._store, key)

    def _patiently(self, key: str, read: Callable[[], T], between: Callable[[], None]) -> T:
        """Read, and again while the store is away."""
        until = time.monotonic() + self._settings.store_patience_seconds
        while True:
            try:
                with _failures(key):
                    return read()
            except ArtifactsUnavailableError as error:
                if self._folder is not None or time.monotonic() > until:
                    raise
                log.warning("a fetch waits: %s", error)
            between()
            time.sleep(_LOOK_EVERY)

    def _tidy(self, key: str) -> None:
        """Remove the empty folders that an aborted write leaves in a local store."""
        if self._folder is None:
            return
        for parent in list((self._folder / key).parents):
            if parent == self._folder:
                return
            try:
                parent.rmdir()
            except OSError:  # not empty, or not there
                return


async def _settled(key: str, busy: list[asyncio.Future[Any]]) -> None:
    """Wait for all that is being done with the chunk before; then nothing is."""
    doing = busy.copy()
    busy.clear()
    with _failures(key):
        for outcome in await asyncio.gather(*doing, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome


async def _gathered(
    chunks: AsyncIterable[bytes | memoryview], enough: Callable[[], int]
) -> AsyncIterator[bytes]:
    """The same bytes in larger parts: a network's small chunks cost more to hand on than to write."""
    waiting: list[bytes | memoryview] = []
    size = 0
    async for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size >= enough():
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def _parts(start: int, end: int) -> Iterator[tuple[int, int]]:
    """The range from `start` to before `end`, cut up.

    One request for each part: a single long one may time out, and the local store would read it in small
    pieces, many times slower.
    """
    for first in range(start, end, PART):
        yield first, min(first + PART, end)


@contextlib.contextmanager
def _failures(key: str) -> Iterator[None]:
    """Turn the store's errors into our own."""
    try:
        yield
    except FileNotFoundError:
        raise ArtifactNotFoundError(f"there is no file '{key}'") from None
    except (BaseError, OSError) as error:
        if isinstance(error, OSError) and is_full(error):
            raise DiskFullError(f"the disk of the artifact store became full at '{key}'; make room") from None
        # Not "from error": its text tells the whole request, signatures in the address included.
        raise ArtifactsUnavailableError(
            f"the artifact store failed at '{key}' ({reason(error)}); check ARTIFACTS_URL and its disk"
        ) from None
