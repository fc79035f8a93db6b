"""Reading jobs for many clients at once: requests that come while one read is under way share the next one.

A request is always answered with what the store held after it came. With one client that is one round trip,
as without this module; with hundreds it is one round trip for all of them, and a job that has not changed
since it was last asked for is not rendered again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from jobs.async_store import AsyncJobStore
from jobs.errors import JobNotFoundError
from jobs.record import Job, Status
from jobs.retention import Retention
from service.views import view_of

# Rendered jobs that are kept, the least recently asked for leaving first; each has about 3 kB.
_KEPT: Final = 2048
_QUEUED: Final = f'"status":"{Status.QUEUED.value}"'


class Reads:
    """The reads of one event loop."""

    def __init__(self, store: AsyncJobStore, retention: Retention) -> None:
        self._store = store
        self._retention = retention
        self._asked: dict[str, asyncio.Future[bytes]] = {}
        self._task: asyncio.Task[None] | None = None
        self._rendered: OrderedDict[str, tuple[str, bytes]] = OrderedDict()

    async def get(self, job_id: str) -> bytes:
        """The job as clients see it, in JSON.

        Raises:
            JobNotFoundError, StoreUnavailableError.
        """
        asked = self._asked.get(job_id)
        if asked is None:
            asked = self._asked[job_id] = asyncio.get_running_loop().create_future()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._read(), name="prunery-reads")
        # Shielded: a client that hangs up must not take the answer from the others.
        return await asyncio.shield(asked)

    async def _read(self) -> None:
        """Read until nobody waits."""
        while self._asked:
            asked, self._asked = self._asked, {}
            try:
                await self._answer(asked)
            except Exception as error:  # noqa: BLE001 - it belongs to those who asked
                for waiting in asked.values():
                    if not waiting.done():
                        waiting.set_exception(error)
                        waiting.exception()  # taken note of, should nobody be left to hear it

    async def _answer(self, asked: dict[str, asyncio.Future[bytes]]) -> None:
        records = dict(zip(asked, await self._store.records(asked), strict=True))
        queued = [job_id for job_id, raw in records.items() if raw and _QUEUED in raw]
        positions: dict[str, int | None] = {}
        if queued:
            positions = dict(zip(queued, await self._store.queue_positions(queued), strict=True))
        for job_id, waiting in asked.items():
            raw = records[job_id]
            if raw is None:
                waiting.set_exception(JobNotFoundError(job_id))
            elif job_id in positions:
                waiting.set_result(self._render(raw, positions[job_id]))
            else:
                waiting.set_result(self._remembered(job_id, raw))

    def _remembered(self, job_id: str, raw: str) -> bytes:
        """The rendered job; once more only when its record is another than last time."""
        found = self._rendered.get(job_id)
        if found is None or found[0] != raw:
            found = self._rendered[job_id] = (raw, self._render(raw, None))
            if len(self._rendered) > _KEPT:
                self._rendered.popitem(last=False)
        self._rendered.move_to_end(job_id)
        return found[1]

    def _render(self, raw: str, position: int | None) -> bytes:
        job = Job.model_validate_json(raw)
        queued = job.status is Status.QUEUED
        view = view_of(job, position if queued else None, self._retention.expires_at(job))
        return view.model_dump_json().encode()
