"""A job's events: a list in JSON, or live as Server-Sent Events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Header, Query, Response
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event

from jobs.errors import EventIdError, JobNotFoundError, StoreUnavailableError
from jobs.layout import StoredEvent
from jobs.record import ENDED
from service import errors
from service.caller import Caller, InCaller
from service.negotiation import prefers
from service.openapi import examples
from service.openapi.responses import json_answer, problems
from service.rooms import InRooms, Rooms
from service.routes.parameters import JobId, check_job_id
from service.views import EventList, event_view

router = APIRouter(tags=["jobs"])

PING_SECONDS: Final = 15.0
_RECONNECT_MS: Final = 2000
_STREAM: Final = "text/event-stream"
_log = structlog.get_logger("service")


@router.get(
    "/jobs/{job_id}/events",
    response_model=EventList,
    operation_id="listEvents",
    summary="A job's events: a list, or live",
    responses={
        200: {
            "description": "With `Accept: text/event-stream`, every event so far and then each as it "
            "happens, until the job has ended; else a page of events, oldest first.",
            "content": {
                **json_answer("", events=examples.EVENTS)["content"],
                _STREAM: {"schema": {"type": "string"}, "example": examples.EVENT_STREAM},
            },
        },
        204: {"description": "Live only: the job has ended and there is no event after `Last-Event-ID`."},
        **problems(JobNotFoundError, errors.ParameterInvalidError, EventIdError),
    },
)
async def list_events(
    job_id: JobId,
    rooms: InRooms,
    caller: InCaller,
    after: Annotated[
        str | None,
        Query(max_length=64, description="Only events after this one.", examples=["1795618200123-0"]),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Events on this page.", examples=[100])] = 100,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
    last_event_id: Annotated[
        str | None,
        Header(
            max_length=64,
            description="Live: go on after this event. A browser's EventSource sends it by itself.",
            examples=["1795618200123-0"],
        ),
    ] = None,
) -> Any:
    """Every change of status, stage and progress, and every warning. The last event ends the job."""
    check_job_id(job_id)
    if prefers(accept, _STREAM, "application/json") == _STREAM:
        return await _live(job_id, last_event_id or after, rooms, caller)
    stored = await rooms.store.events(job_id, after, limit + 1)
    page = EventList(
        data=[event_view(item.id, item.event) for item in stored[:limit]], has_more=len(stored) > limit
    )
    return Response(page.model_dump_json(), media_type="application/json")


async def _live(job_id: str, after: str | None, rooms: Rooms, caller: Caller) -> Response:
    """The stream; whatever can be refused is refused before it begins."""
    waiting = await rooms.store.events(job_id, after, 1)
    if after and not waiting and (await rooms.store.get(job_id)).status in ENDED:
        return Response(status_code=204)  # An EventSource reconnects after any other end.
    return EventSourceResponse(
        _stream(job_id, after, rooms, caller),
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _stream(job_id: str, after: str | None, rooms: Rooms, caller: Caller) -> AsyncIterator[bytes]:
    """Events on the wire, a ping when there is none for a while; ends with the job, the server or the key."""
    yield format_sse_event(retry=_RECONNECT_MS)
    events = aiter(rooms.store.follow(job_id, after, PING_SECONDS))
    stopping = asyncio.ensure_future(rooms.stopping.wait())
    upcoming = asyncio.ensure_future(anext(events, None))
    loop = asyncio.get_running_loop()
    looked = loop.time()
    try:
        while True:
            if loop.time() - looked >= PING_SECONDS:
                looked = loop.time()
                if not await rooms.gate.lives(caller):
                    return
            left = max(0.0, looked + PING_SECONDS - loop.time())  # until the key is looked at again
            done, _ = await asyncio.wait(
                {upcoming, stopping}, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            if upcoming in done:
                item = upcoming.result()
                if item is None:
                    return
                yield _frame(item)
                upcoming = asyncio.ensure_future(anext(events, None))
            elif stopping in done:
                return
            else:
                yield KEEPALIVE_COMMENT
    except JobNotFoundError:
        return  # Deleted while it was watched: it had ended, and its last event was sent.
    except StoreUnavailableError as error:
        _log.warning("stream ends", job_id=job_id, code=error.code, detail=error.message)
    finally:
        upcoming.cancel()
        stopping.cancel()


def _frame(item: StoredEvent) -> bytes:
    view = event_view(item.id, item.event).model_dump(mode="json")
    return format_sse_event(
        id=item.id, event=str(item.event["type"]), data_str=json.dumps(view, separators=(",", ":"))
    )
