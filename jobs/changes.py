"""One ear per process for every job that changes.

Each change is called out on one Redis channel, by the same script that makes it. A process listens with one
connection and wakes whoever waits for that job, so any number of waiting clients costs one connection, where
`XREAD BLOCK` would take one each. A call may get lost with a connection; the record and the stream stay the
truth: whoever waits looks there before and after, and everybody is woken when the connection is back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import redis.asyncio
import redis.exceptions


class Changes:
    """Wakes those who wait for a job. Belongs to one event loop; listens from the first waiter on."""

    def __init__(self, client: redis.asyncio.Redis, channel: str) -> None:
        self._client = client
        self._channel = channel
        self._bells: dict[str, set[asyncio.Event]] = {}
        self._listening = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def watch(self, job_id: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set at every change of the job from now on."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._listen(), name="prunery-changes")
        bell = asyncio.Event()
        self._bells.setdefault(job_id, set()).add(bell)
        try:
            with contextlib.suppress(TimeoutError):  # the store is away: the waiter's own look will say so
                await asyncio.wait_for(self._listening.wait(), 5.0)
            yield bell
        finally:
            bells = self._bells[job_id]
            bells.discard(bell)
            if not bells:
                del self._bells[job_id]

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _listen(self) -> None:
        while True:
            try:
                async with self._client.pubsub() as pubsub:
                    await pubsub.subscribe(self._channel)
                    while True:
                        message = await pubsub.get_message(timeout=5.0)
                        if message is not None:
                            self._heard(message["type"], message["data"])
            except (redis.exceptions.RedisError, OSError):
                self._listening.clear()
                await asyncio.sleep(0.2)

    def _heard(self, kind: str, job_id: str) -> None:
        if kind == "subscribe":  # at first and after every reconnect: something may have been missed
            self._listening.set()
            for bells in self._bells.values():
                for bell in bells:
                    bell.set()
        elif kind == "message":
            for bell in self._bells.get(job_id, ()):
                bell.set()
