"""Idempotency-Key: a submission that is sent again, because its answer was lost, makes no second job."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from fastapi import Request, Response

from jobs.claims import Outcome
from jobs.errors import StoreUnavailableError
from jobs.record import Job
from service.caller import Caller
from service.errors import IdempotencyKeyInvalidError, IdempotencyKeyReusedError
from service.rooms import Rooms
from service.submission import submit
from service.uploads import receive_fingerprint
from service.views import job_path

HEADER: Final = "Idempotency-Key"
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_log = structlog.get_logger("service")
Answer = Callable[[Job], Awaitable[Response]]


def idempotency_key(request: Request) -> str | None:
    """The key that came with the request; None where none did.

    Raises:
        IdempotencyKeyInvalidError: it cannot be one.
    """
    given = request.headers.getlist(HEADER)
    if not given:
        return None
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        raise IdempotencyKeyInvalidError(
            "an Idempotency-Key has 1 to 255 visible ASCII characters without spaces, and comes once; a UUID "
            "is a good one",
            param=HEADER,
        )
    return given[0]


async def submit_once(request: Request, rooms: Rooms, caller: Caller, key: str, accepted: Answer) -> Response:
    """Submit, or give the answer that the first request with this key was given.

    A request that was refused has spent nothing: the key may come again, with the same request or another.

    Raises:
        IdempotencyKeyInUseError: the first request has not been answered yet.
        IdempotencyKeyReusedError: the first request asked for something else.
        PruneError: as `submit`.
    """
    claim = await rooms.claims.take(caller.owner, key)
    if isinstance(claim, Outcome):
        return await _again(request, rooms, claim, accepted)
    async with rooms.claims.held(claim):
        job = await submit(request, rooms, caller, claim)
    answer = await accepted(job)
    try:
        await rooms.claims.answered(claim, bytes(answer.body).decode())
    except StoreUnavailableError as error:
        # The job is known by now; only its first answer would be given anew, as the job is then.
        _log.warning("answer not noted", job_id=job.id, detail=error.message)
    return answer


async def _again(request: Request, rooms: Rooms, first: Outcome, accepted: Answer) -> Response:
    if await receive_fingerprint(request, rooms) != first.fingerprint:
        raise IdempotencyKeyReusedError(
            f"this Idempotency-Key came with another request, whose job is {first.job_id}; a new request "
            "needs a new key",
            param=HEADER,
        )
    if first.answer is None:
        answer = await accepted(await rooms.store.get(first.job_id))
    else:
        headers = {"Location": job_path(first.job_id)}
        answer = Response(first.answer, 202, headers=headers, media_type="application/json")
    answer.headers["Idempotency-Replayed"] = "true"
    answer.headers["Retry-After"] = "2"
    return answer
