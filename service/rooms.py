"""What a request needs from the other rooms: the settings, the stores, the doorbell."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

import anyio.to_thread
import structlog
from fastapi import Depends, Request

from jobs.admission import AsyncKeys
from jobs.artifacts import ArtifactStore
from jobs.async_store import AsyncJobStore
from jobs.claims import Claims
from jobs.doorbell import Doorbell
from jobs.errors import StoreUnavailableError
from jobs.record import Job
from jobs.retention import Retention
from jobs.settings import Settings
from jobs.webhooks.outbox import AsyncOutbox
from service.gate import Gate
from service.inspector import Inspector
from service.metrics import Metrics
from service.reads import Reads

_log = structlog.get_logger("service")


@dataclass(frozen=True)
class Rooms:
    """The doors of one running application. `stopping` is set when the server has been asked to end."""

    settings: Settings
    store: AsyncJobStore
    artifacts: ArtifactStore
    doorbell: Doorbell
    metrics: Metrics
    reads: Reads
    inspector: Inspector
    keys: AsyncKeys
    claims: Claims
    gate: Gate
    outbox: AsyncOutbox
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def ring(self, job: Job) -> None:
        """Tell the workers that a job waits.

        The record is the truth: a job that nobody rang for is found when a worker looks.
        """
        try:
            await anyio.to_thread.run_sync(lambda: self.doorbell.ring(job.id, gpu=job.needs_gpu))
        except StoreUnavailableError as error:
            _log.error("not rung", job_id=job.id, detail=error.message)

    @cached_property
    def retention(self) -> Retention:
        """How long jobs are kept."""
        return Retention.of(self.settings)

    async def close(self) -> None:
        """Close every connection."""
        self.doorbell.close()
        await self.inspector.close()
        await self.outbox.close()
        await self.claims.close()
        await self.keys.close()
        await self.store.close()


async def rooms_of(request: Request) -> Rooms:
    """The rooms of the application that handles `request`. Async, since FastAPI runs others in threads."""
    rooms: Rooms = request.app.state.rooms
    return rooms


InRooms = Annotated[Rooms, Depends(rooms_of)]
