"""Submitting, listing, watching and deleting jobs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from jobs.errors import (
    ActiveJobsExceededError,
    IdempotencyKeyInUseError,
    JobNotFoundError,
    NotDeletableError,
)
from jobs.record import Job, Status
from service import errors, inspection
from service.caller import InCaller
from service.idempotency import HEADER, idempotency_key, submit_once
from service.openapi import examples
from service.openapi.form import request_body
from service.openapi.inspections import INSPECTED
from service.openapi.responses import json_answer, merged, problems
from service.rooms import InRooms, Rooms
from service.routes.answers import HEADERS, answer_accepted, answer_with, in_json
from service.routes.models import REFUSALS, Accept, Format
from service.routes.parameters import JobId, check_job_id
from service.submission import discard, submit
from service.views import JobList, JobView, view_of

router = APIRouter(tags=["jobs"])


@router.post(
    "/jobs",
    status_code=202,
    response_model=JobView,
    operation_id="createJob",
    summary="Submit a job",
    openapi_extra={"requestBody": request_body()},
    responses={
        200: INSPECTED | {"description": "With `validate_only`: what the job would find; nothing is queued."},
        202: json_answer("The job is recorded and queued.", HEADERS, queued=examples.QUEUED),
        **merged(
            REFUSALS,
            problems(
                ActiveJobsExceededError,
                IdempotencyKeyInUseError,
                errors.IdempotencyKeyInvalidError,
                errors.IdempotencyKeyReusedError,
                errors.StorageExceededError,
            ),
        ),
    },
)
async def create_job(
    request: Request,
    rooms: InRooms,
    caller: InCaller,
    validate_only: Annotated[
        bool,
        Query(
            description="Queue nothing; answer what the job would find, or the problem it would fail with.",
            examples=[True],
        ),
    ] = False,
    format: Format = None,
    accept: Accept = "",
    _: Annotated[
        str | None,
        Header(
            alias=HEADER,
            description="Send the same one again when the answer was lost: the job is made once.",
            examples=["b5c7a9f0-6b0e-4f0e-9f57-0e1b5f6a9d2c"],
        ),
    ] = None,
) -> Any:
    """Send a model, a density and data as multipart/form-data. Answers when the job is safely on disk.

    With an `Idempotency-Key` the same request may be sent again for a day: it is answered with the first
    one's answer, and `Idempotency-Replayed: true`.
    """
    if validate_only:
        return inspection.answer(await inspection.validate(request, rooms), format, accept)

    async def accepted(job: Job) -> Response:
        secret = await rooms.outbox.secret(job.id) if job.webhook else None
        return await answer_accepted(job, rooms, secret)

    key = idempotency_key(request)
    if key is not None:
        return await submit_once(request, rooms, caller, key, accepted)
    return await accepted(await submit(request, rooms, caller))


@router.get(
    "/jobs",
    response_model=JobList,
    operation_id="listJobs",
    summary="List jobs",
    responses={
        200: json_answer("A page of jobs, newest first.", jobs=examples.JOBS),
        **problems(errors.ParameterInvalidError),
    },
)
async def list_jobs(
    rooms: InRooms,
    caller: InCaller,
    limit: Annotated[int, Query(ge=1, le=100, description="Jobs on this page.", examples=[20])] = 20,
    after: Annotated[
        str | None,
        Query(max_length=64, description="The last id of the page before.", examples=[examples.JOB_ID]),
    ] = None,
    status: Annotated[
        Status | None, Query(description="Only jobs in this state.", examples=["running"])
    ] = None,
) -> Any:
    """Newest first. Go on with `after` = the last id of this page while `has_more` is true."""
    page, has_more = await rooms.store.page(limit, after, status, caller.sees)
    positions = await rooms.store.queue_positions([job.id for job in page]) if page else []
    views = [
        view_of(job, position, rooms.retention.expires_at(job))
        for job, position in zip(page, positions, strict=True)
    ]
    return in_json(JobList(data=views, has_more=has_more))


@router.get(
    "/jobs/{job_id}",
    response_model=JobView,
    operation_id="getJob",
    summary="Look at a job, or wait for it to change",
    responses={
        200: json_answer(
            "The job as it is now.",
            queued=examples.QUEUED,
            running=examples.RUNNING,
            succeeded=examples.SUCCEEDED,
            failed=examples.FAILED,
        ),
        **problems(JobNotFoundError, errors.ParameterInvalidError),
    },
)
async def get_job(
    job_id: JobId,
    rooms: InRooms,
    wait: Annotated[
        float,
        Query(
            ge=0,
            le=60,
            allow_inf_nan=False,
            description="Answer as soon as something changes, at the latest after this many seconds.",
            examples=[30],
        ),
    ] = 0.0,
) -> Any:
    """With `wait`, the answer comes as soon as something changes; an ended job is answered at once."""
    check_job_id(job_id)
    if wait:
        return await answer_with(await _changed(job_id, wait, rooms), rooms)
    return Response(await rooms.reads.get(job_id), media_type="application/json")


@router.delete(
    "/jobs/{job_id}",
    status_code=204,
    operation_id="deleteJob",
    summary="Delete an ended job and its files",
    responses={
        204: {"description": "The record, the events and every file of the job are gone."},
        **problems(JobNotFoundError, NotDeletableError),
    },
)
async def delete_job(job_id: JobId, rooms: InRooms) -> Response:
    """Only ended jobs can be deleted; cancel first."""
    # The record first: a job without files would promise what is not there.
    if not await rooms.store.delete(check_job_id(job_id)):
        raise JobNotFoundError(job_id)
    await discard(job_id, rooms)
    return Response(status_code=204)


async def _changed(job_id: str, seconds: float, rooms: Rooms) -> Job:
    """The job when it changes, after `seconds`, or when the server is asked to end."""
    waiting = asyncio.ensure_future(rooms.store.wait_for_change(job_id, seconds))
    stopping = asyncio.ensure_future(rooms.stopping.wait())
    try:
        await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else await rooms.store.get(job_id)
    finally:
        waiting.cancel()
        stopping.cancel()
