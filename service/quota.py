"""The bytes that a key may have stored, kept to while an upload comes in.

Room for it is kept in the store, so that uploads to several processes at once cannot exceed it together: all
of it where the request says its length, else step by step.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

import anyio
from fastapi import Request

from jobs.admission import AsyncKeys
from jobs.errors import StoreUnavailableError
from service.caller import Caller
from service.errors import StorageExceededError
from service.gate import limit_of
from service.rooms import Rooms

_STEP: Final = 64 * 1024 * 1024
_RENEW_SECONDS: Final = 15.0


class Quota:
    """The room for one upload."""

    def __init__(self, keys: AsyncKeys, key_id: str, upload: str, limit: int) -> None:
        self._keys = keys
        self._key_id = key_id
        self._upload = upload
        self._limit = limit
        self._taken = 0
        self._kept = 0
        self._renewed = -_RENEW_SECONDS

    async def took(self, size: int) -> None:
        """So many bytes more have come in.

        Raises:
            StorageExceededError: there is no room for them.
        """
        self._taken += size
        if self._limit and (self._taken > self._kept or time.monotonic() - self._renewed > _RENEW_SECONDS):
            await self.keep(max(self._kept, self._taken), more=_STEP if self._taken > self._kept else 0)

    async def keep(self, size: int, more: int = 0) -> None:
        """Keep room for `size` bytes in all, and for `more` where there is so much.

        Raises:
            StorageExceededError: there is no room for `size`.
        """
        if not self._limit or not size:
            return
        self._renewed = time.monotonic()
        room = await self._reserve(size + more)
        if room < size + more:
            room = await self._reserve(size) if room >= size else room
            more = 0
        if room < size:
            raise StorageExceededError(
                f"the files of this key's jobs may have {self._limit:,} bytes together, and there is room "
                f"for {max(0, room):,} more; delete jobs that have ended"
            )
        self._kept = size + more

    async def end(self) -> None:
        """The upload has ended: what came of it is in the job's record, or gone."""
        if self._kept:
            with contextlib.suppress(StoreUnavailableError):  # then it counts as given up in a minute
                await self._reserve(0)

    async def _reserve(self, size: int) -> int:
        return await self._keys.reserve(self._key_id, self._upload, size, self._limit)


@contextlib.asynccontextmanager
async def quota_of(request: Request, rooms: Rooms, caller: Caller, job_id: str) -> AsyncIterator[Quota]:
    """The room for the caller's upload, until the block ends.

    Raises:
        StorageExceededError: the request says that it is larger than what there is room for.
    """
    key = caller.key
    limit = limit_of(key.limits.stored_bytes, rooms.settings.key_stored_bytes) if key else 0
    quota = Quota(rooms.keys, key.id if key else "", job_id, limit)
    said = request.headers.get("content-length", "")
    try:
        await quota.keep(int(said[:20]) if said.isdigit() else 0)
        yield quota
    finally:
        with anyio.CancelScope(shield=True):
            await quota.end()
