"""The application: `create_app(settings)`, and `app` for `uvicorn service.app:app`. Light: no torch."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator
from typing import Any

import structlog
from fastapi import Depends, FastAPI

from jobs import tracing
from jobs.admission import AsyncKeys
from jobs.artifacts import ArtifactStore
from jobs.async_store import AsyncJobStore
from jobs.claims import Claims
from jobs.doorbell import Doorbell
from jobs.errors import JobNotFoundError, StoreUnavailableError
from jobs.outgoing import Rules
from jobs.retention import Retention
from jobs.settings import Settings
from jobs.webhooks.outbox import AsyncOutbox
from prune_engine import __version__
from service import binding, docs_page, handlers
from service.caller import caller_of
from service.gate import Gate
from service.inspector import Inspector
from service.metrics import Metrics
from service.openapi import schema
from service.reads import Reads
from service.requests import RequestMiddleware
from service.rooms import Rooms
from service.routes import control, datasets, events, files, jobs, models, operation, webhooks

_log = structlog.get_logger("service")
_RUNG = 20  # of each queue: whoever has done a job rings for the next


def create_app(settings: Settings | None = None) -> FastAPI:
    """The ASGI application. Connections are opened when it starts and closed when it ends.

    Args:
        settings: default: from the environment and `.env`.
    """
    chosen = settings or Settings()
    metrics = Metrics()
    app = FastAPI(
        title="Prunery",
        version=__version__,
        lifespan=lambda app: _lifespan(app, chosen, metrics),
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(caller_of)],
    )
    app.add_middleware(RequestMiddleware, metrics=metrics)
    handlers.install(app)
    parts = (jobs, control, events, files, webhooks, models, datasets, operation)
    routers = [part.router for part in parts]
    for router in routers:
        app.include_router(router)
    app.state.routes = [route for router in routers for route in router.routes]
    schema.install(app)
    docs_page.install(app)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI, settings: Settings, metrics: Metrics) -> AsyncIterator[None]:
    await asyncio.to_thread(binding.prepare, settings, binding.command_line_host())
    Rules.of(settings)  # what is wrong with them is said at the start
    tracing.start(settings, "prunery-api")
    store = AsyncJobStore(settings)
    keys = AsyncKeys(settings)
    rooms = Rooms(
        settings,
        store,
        ArtifactStore(settings),
        Doorbell(settings),
        metrics,
        Reads(store, Retention.of(settings)),
        Inspector(settings),
        keys,
        Claims(settings),
        Gate(settings, keys),
        AsyncOutbox(settings),
    )
    app.state.rooms = rooms
    # The first submission would otherwise wait for Celery's import.
    warming = asyncio.create_task(asyncio.to_thread(importlib.import_module, "celery.app.amqp"))
    sweeping = asyncio.create_task(_ring_for_who_waits(rooms, warming))
    _log.info("started", artifacts=settings.artifacts)
    try:
        yield
    finally:
        rooms.stopping.set()
        sweeping.cancel()
        await warming
        await rooms.close()
        await asyncio.to_thread(tracing.close)
        _log.info("stopped")


async def _ring_for_who_waits(rooms: Rooms, warming: asyncio.Task[Any]) -> None:
    """What an earlier process accepted and had no time to ring for; workers look after the rest."""
    await asyncio.shield(warming)
    try:
        for gpu in (False, True):
            for job_id in await rooms.store.waiting(gpu, _RUNG):
                with contextlib.suppress(JobNotFoundError):
                    await rooms.ring(await rooms.store.get(job_id))
    except StoreUnavailableError as error:
        _log.info("nobody rung for", detail=error.message)


def __getattr__(name: str) -> Any:
    """`app`, made when it is first asked for, so that importing this module reads no settings."""
    if name == "app":
        globals()["app"] = create_app()
        return globals()["app"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
