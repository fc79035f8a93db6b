"""For those who run the service: health, readiness, metrics, and an index."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from jobs.disk import check_room, in_words
from jobs.errors import StoreUnavailableError
from jobs.record import sent_at
from jobs.sandbox.choice import sandbox_of
from prune_engine import __version__
from prune_engine.errors import PruneError
from service.figures import Stored
from service.metrics import CONTENT_TYPE, disks
from service.openapi import examples
from service.openapi.responses import json_answer, problems
from service.rooms import InRooms, Rooms

router = APIRouter(tags=["operation"])


class Part(BaseModel):
    """One thing that the service needs."""

    model_config = ConfigDict(frozen=True)

    ready: bool
    detail: str = Field(description="What is wrong with it, where it is not ready.")


class Readiness(BaseModel):
    """Whether jobs can be taken and done."""

    model_config = ConfigDict(frozen=True)

    status: str = Field(description="`ready`, or `not ready`.", examples=["ready"])
    parts: dict[str, Part] = Field(description="`store`, `artifacts`, `disk`, `workers` and `sandbox`.")


class Health(BaseModel):
    """The process answers."""

    model_config = ConfigDict(frozen=True)

    status: str = Field(examples=["ok"])


class Index(BaseModel):
    """What there is."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    docs: str
    openapi: str
    jobs: str
    datasets: str
    health: str
    ready: str
    metrics: str
    submit: str = Field(description="A command that submits a job.")


@router.get(
    "/",
    response_model=Index,
    operation_id="index",
    summary="What there is",
    responses={200: json_answer("Paths to begin with.", index=examples.INDEX)},
)
async def index() -> Any:
    """Paths to begin with."""
    return Index(**(examples.INDEX | {"version": __version__}))


@router.get(
    "/healthz",
    response_model=Health,
    operation_id="health",
    summary="Whether the process answers",
    responses={200: json_answer("It does.", ok=examples.HEALTH)},
)
async def health() -> Any:
    """For a liveness probe: nothing else is asked."""
    return Health(status="ok")


@router.get(
    "/readyz",
    response_model=Readiness,
    operation_id="readiness",
    summary="Whether jobs can be taken and done",
    responses={
        200: json_answer("The store and the artifacts answer and a worker lives.", ready=examples.READY),
        503: json_answer("Something is missing.", missing=examples.NOT_READY) | {"model": Readiness},
    },
)
async def readiness(request: Request, rooms: InRooms) -> Any:
    """For a readiness probe: `parts` says what is missing; why, only to who has a key where one is needed."""
    names = ("store", "artifacts", "disk", "workers", "sandbox")
    checks = (rooms.store.ping(), rooms.artifacts.ping(), _disk(rooms), _workers(rooms), _sandbox(rooms))
    parts = dict(zip(names, await asyncio.gather(*map(_check, checks)), strict=True))
    if not (await rooms.gate.whoever(request)).known:
        parts = {name: part.model_copy(update={"detail": ""}) for name, part in parts.items()}
    # Without a sandbox this API looks through no model; jobs it takes all the same.
    ready = all(part.ready for name, part in parts.items() if name != "sandbox")
    answer = Readiness(status="ready" if ready else "not ready", parts=parts)
    return JSONResponse(answer.model_dump(), status_code=200 if ready else 503)


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "Requests, durations, uploads of this API; jobs, queues, workers of all.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": examples.METRICS}},
        },
        **problems(),
    },
)
async def metrics(rooms: InRooms) -> Response:
    """In the text format."""
    stored: Stored | None = None
    with contextlib.suppress(StoreUnavailableError, TimeoutError):
        async with asyncio.timeout(3):
            stored = await _stored(rooms)
    rooms.metrics.measure(rooms.settings, disks(rooms.settings, rooms.artifacts))
    return Response(rooms.metrics.render(stored), headers={"Content-Type": CONTENT_TYPE})


async def _stored(rooms: Rooms) -> Stored:
    counts, totals, workers, waiting, oldest = await asyncio.gather(
        rooms.store.counts(),
        rooms.store.totals(),
        rooms.store.living_workers(),
        rooms.store.waiting_counts(),
        rooms.store.oldest_queued(),
    )
    counters, webhooks_waiting = await asyncio.gather(rooms.store.counters(), rooms.outbox.waiting())
    queues = {False: rooms.settings.queue, True: rooms.settings.gpu_queue}
    return Stored(
        jobs=counts,
        totals=totals,
        waiting={(queues[gpu], priority): number for (gpu, priority), number in waiting.items()},
        oldest_seconds=max(0.0, time.time() - sent_at(oldest)) if oldest else 0.0,
        workers=len(workers),
        webhooks={name.removeprefix("webhook:"): n for name, n in counters.items() if name[:8] == "webhook:"},
        webhooks_waiting=webhooks_waiting,
        cleaned={name.removeprefix("cleaned:"): n for name, n in counters.items() if name[:8] == "cleaned:"},
    )


async def _disk(rooms: Rooms) -> str:
    """Room for uploads, and for looking through models."""
    reserve = rooms.settings.min_free_bytes
    said = [
        f"{name} {in_words(check_room(folder, reserve).free)} free"
        for name, folder in disks(rooms.settings, rooms.artifacts).items()
    ]
    return ", ".join(said)


async def _workers(rooms: Rooms) -> str:
    living = await rooms.store.living_workers()
    if not living:
        raise PruneError("no worker lives; start one: python -m worker")
    said = sorted({sandbox for sandbox in await rooms.store.sandboxes(living) if sandbox})
    return "; ".join([f"{len(living)} alive", *(f"models run in {sandbox}" for sandbox in said)])


async def _sandbox(rooms: Rooms) -> str:
    return (await asyncio.to_thread(sandbox_of, rooms.settings)).description


async def _check(asked: Awaitable[str | None]) -> Part:
    """Whether a part answers within three seconds."""
    try:
        async with asyncio.timeout(3):
            return Part(ready=True, detail=await asked or "answers")
    except PruneError as error:
        return Part(ready=False, detail=error.message)
    except TimeoutError:
        return Part(ready=False, detail="it does not answer within 3 s")
