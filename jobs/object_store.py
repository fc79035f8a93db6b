"""Opening what `ARTIFACTS_URL` names: a folder, or a bucket of S3, Google Cloud Storage or Azure.

Credentials are never settings: each cloud's own environment variables, or the role of the machine, are read
by obstore itself. So they are in no dump of the settings, and in no log.
"""

from __future__ import annotations

import asyncio
import logging
import re
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store, from_url

from jobs.errors import ConfigurationError
from jobs.settings import Settings

log = logging.getLogger(__name__)
# A few parts in flight: an upload of any usual size holds at most 20 MB of memory.
PART = 5 * 1024 * 1024
PARTS_IN_FLIGHT = 4
_LAST_WRITE = 30.0  # seconds that an upload that is given up waits for what is under way
_MOST_PARTS = 10_000  # that an upload to S3 may have
# What one request is repeated for: a moment's 503, a dropped connection. Two seconds at least (each wait is
# drawn from between the first and `base` times the last) and seldom more than three; whoever can wait longer
# does so by himself, and sees between two tries whether there is still anything to wait for.
_RETRIES: Any = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=10),
    "backoff": {
        "init_backoff": timedelta(milliseconds=250),
        "max_backoff": timedelta(seconds=1),
        "base": 1.5,
    },
}
# Plain HTTP is used only where the endpoint's address says so.
_CLIENT: Any = {
    "allow_http": True,
    "connect_timeout": timedelta(seconds=5),
    "timeout": timedelta(seconds=60),
}
Signer = S3Store | GCSStore | AzureStore
_BUCKETS = (S3Store, GCSStore, AzureStore)
# What each kind of store calls the address that it is asked at.
_ENDPOINT = {"S3Store": "endpoint", "GCSStore": "base_url", "AzureStore": "endpoint"}
# Where addresses that are signed lead to, unless the store has one of its own (`AWS_ENDPOINT_URL`).
_CLOUDS = (
    *(".amazonaws.com", ".amazonaws.com.cn", ".r2.cloudflarestorage.com", "storage.googleapis.com"),
    *(".core.windows.net", ".core.usgovcloudapi.net", ".core.chinacloudapi.cn"),
)
_QUERY = re.compile(r"\?[^\s):]+")


def local_folder(location: str) -> Path | None:
    """The folder that a path or a `file://` URL names; None: it is no folder."""
    if "://" not in location:
        return Path(location).absolute()
    url = urlsplit(location)
    return Path(unquote(url.path)) if url.scheme == "file" else None


def open_store(settings: Settings) -> ObjectStore:
    """The store that the settings name; nothing is sent yet.

    Raises:
        ConfigurationError: the URL is none that can be used, or lacks what its cloud needs.
    """
    folder = local_folder(settings.artifacts)
    if folder is not None:
        return LocalStore(folder, automatic_cleanup=True, mkdir=True)
    return _open(settings)


def open_signer(settings: Settings, store: ObjectStore) -> Signer | None:
    """The store that signs addresses for clients; None where files are not to be fetched from it directly."""
    if settings.presign == "off" or not isinstance(store, _BUCKETS):
        return None
    if settings.presign_endpoint is None:
        return store
    signer: Any = _open(settings, {_ENDPOINT[type(store).__name__]: settings.presign_endpoint})
    return signer  # type: ignore[no-any-return]


def is_a_clouds_own(address: str) -> bool:
    """Whether `address` is at a cloud that everybody can reach, and not at a store with a name of its own.

    That one may be known inside a cluster only: `presign_endpoint` says where clients reach it.
    """
    host = urlsplit(address).hostname or ""
    return host.endswith(_CLOUDS) and ".vpce." not in host


def holds_headers(store: ObjectStore) -> bool:
    """Whether the store keeps a file's type and name with it, and says them to who fetches it."""
    return isinstance(store, _BUCKETS)


def part_size(size: int | None) -> int:
    """How large the parts of an upload are: small, but not so small that there would be too many."""
    return max(PART, -(-(size or 0) // _MOST_PARTS))


class Upload:
    """A file on its way to a bucket: there when the block ends well; else no part of it is kept.

    Args:
        store: where.
        key: the file.
        limit: how large it can become.
    """

    def __init__(self, store: ObjectStore, key: str, limit: int | None) -> None:
        self._key = key
        self._writer = obstore.open_writer_async(
            store, key, buffer_size=part_size(limit), max_concurrency=PARTS_IN_FLIGHT
        )
        self._writing: asyncio.Future[Any] | None = None

    async def __aenter__(self) -> Upload:
        await self._writer.__aenter__()
        return self

    async def write(self, chunk: bytes) -> None:
        """Append all of `chunk`. One at a time."""
        # Shielded: a request that begins an upload and whose answer nobody hears could not be taken back.
        self._writing = asyncio.ensure_future(self._writer.write(chunk))
        await asyncio.shield(self._writing)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if error is None:
            await self._writer.__aexit__(None, None, None)
        else:
            # In a task of its own: whoever hung up cancels this one, and may do so again.
            await asyncio.wait({asyncio.ensure_future(self._abort(error))})

    async def _abort(self, error: BaseException) -> None:
        """Give it up. The error that it is given up for is the one to tell."""
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=_LAST_WRITE)
        try:
            await self._writer.__aexit__(type(error), error, error.__traceback__)
        except (BaseError, OSError) as failed:
            log.warning("an upload could not be aborted at '%s': %s", self._key, reason(failed))


def reason(error: BaseException) -> str:
    """What a store says went wrong, without its page about it and what may be a signature in an address."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return _QUERY.sub("?...", first.partition(": <")[0])


def _open(settings: Settings, config: Any = None) -> ObjectStore:
    location = settings.artifacts
    if location.startswith("memory:"):
        return from_url(location)
    url = urlsplit(location)
    if url.password is not None or url.query:
        raise ConfigurationError(
            "ARTIFACTS_URL has a secret in it; give it to the environment variables of the cloud instead",
            param="artifacts_url",
        )
    try:
        return from_url(location, config=config, client_options=_CLIENT, retry_config=_RETRIES)
    except (BaseError, ValueError) as error:
        raise ConfigurationError(
            f"ARTIFACTS_URL cannot be used: {reason(error)}; docs/settings.md shows one for each cloud",
            param="artifacts_url",
        ) from None
