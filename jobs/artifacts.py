"""The store of files: uploads and results, in a local folder or an object store, by URL alone.

Keys are `<job>/input/model`, `<job>/input/data`, `<job>/input/tokenizer` and `<job>/output/<name>`.
The store knows names and bytes only; size and SHA-256 of a file are in the job's record.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from jobs.errors import ArtifactNotFoundError, ArtifactsUnavailableError, TooLargeError
from jobs.settings import Settings

# A few parts in flight: an upload of any size holds at most 20 MB of memory.
_PART = 5 * 1024 * 1024
_PARTS_IN_FLIGHT = 4
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class StoredFile:
    """What was written: its size and SHA-256 (hex)."""

    bytes: int
    sha256: str


def input_key(job_id: str, name: str) -> str:
    """Key of an input: "model", "data" or "tokenizer"."""
    return f"{job_id}/input/{name}"


def output_key(job_id: str, name: str) -> str:
    """Key of an output: its path below `out/`."""
    return f"{job_id}/output/{name}"


class ArtifactStore:
    """Files by key. Async verbs serve the API, which streams; sync ones the worker, which has local files.

    Every method raises ArtifactsUnavailableError when the store fails.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = _local_folder(settings.artifacts)
        self._store: ObjectStore
        if self._folder is not None:
            self._store = LocalStore(self._folder, automatic_cleanup=True, mkdir=True)
        else:
            self._store = from_url(settings.artifacts)

    async def put_stream(
        self, key: str, chunks: AsyncIterable[bytes], *, limit: int | None = None, param: str | None = None
    ) -> StoredFile:
        """Write `chunks` as they come. Nothing stays when the caller is cancelled or `chunks` raises.

        Raises:
            TooLargeError: more than `limit` bytes came; `param` names what is too large.
        """
        digest, size = hashlib.sha256(), 0
        loop = asyncio.get_running_loop()
        hashing: asyncio.Future[None] | None = None
        try:
            with _failures(key):
                writer = obstore.open_writer_async(
                    self._store, key, buffer_size=_PART, max_concurrency=_PARTS_IN_FLIGHT
                )
            async with contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(writer)
                async for chunk in chunks:
                    size += len(chunk)
                    if limit is not None and size > limit:
                        raise TooLargeError(f"the file is larger than {limit} bytes", param=param)
                    # In a thread, while this chunk is written and the next one comes in.
                    if hashing is not None:
                        await hashing
                    hashing = loop.run_in_executor(None, digest.update, chunk)
                    with _failures(key):
                        await writer.write(chunk)
                if hashing is not None:
                    await hashing
                with _failures(key):
                    await stack.aclose()  # the file is there, whole, from here on
        except BaseException:
            self._tidy(key)
            raise
        return StoredFile(size, digest.hexdigest())

    async def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `end` (default: all), in chunks of about 1 MiB.

        Raises:
            ArtifactNotFoundError: there is no such file.
        """
        size = await self.head(key)
        end = size if end is None else min(end, size)
        if start >= end:
            return
        with _failures(key):
            result = await obstore.get_async(self._store, key, options={"range": (start, end)})
            async for chunk in result.stream(min_chunk_size=_CHUNK):
                yield bytes(chunk)

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
        """Return when the store answers."""
        with contextlib.suppress(ArtifactNotFoundError):
            await self.head("ping")

    def put_file(self, key: str, path: Path) -> StoredFile:
        """Write a local file."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            size = file.tell()
        with _failures(key):
            obstore.put(self._store, key, path, chunk_size=_PART, max_concurrency=_PARTS_IN_FLIGHT)
        return StoredFile(size, digest.hexdigest())

    def fetch_file(self, key: str, path: Path) -> None:
        """Copy a file to `path`. Not a link: what runs there must not be able to change what is stored.

        Raises:
            ArtifactNotFoundError: there is no such file.
        """
        with _failures(key):
            if self._folder is not None:
                shutil.copyfile(self._folder / key, path)
                return
            with path.open("wb") as file:
                for chunk in obstore.get(self._store, key).stream(min_chunk_size=_CHUNK):
                    file.write(chunk)

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


def _local_folder(location: str) -> Path | None:
    if "://" not in location:
        return Path(location).absolute()
    url = urlsplit(location)
    return Path(unquote(url.path)) if url.scheme == "file" else None


@contextlib.contextmanager
def _failures(key: str) -> Iterator[None]:
    """Turn the store's errors into our own."""
    try:
        yield
    except FileNotFoundError:
        raise ArtifactNotFoundError(f"there is no file '{key}'") from None
    except (BaseError, OSError) as error:
        raise ArtifactsUnavailableError(
            f"the artifact store failed at '{key}' ({str(error).splitlines()[0]}); "
            "check ARTIFACTS_URL and its disk"
        ) from error
