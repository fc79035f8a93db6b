"""What may be asked of a job: that it is cancelled, put aside, goes on, or is tried once more."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from jobs.conditions import Conditions
from jobs.errors import (
    ActiveJobsExceededError,
    JobNotFoundError,
    NotCancellableError,
    NotPausableError,
    NotResumableError,
    NotRetriableError,
)
from jobs.record import HELD, Job, Status
from service.caller import InCaller
from service.openapi import examples
from service.openapi.responses import json_answer, problems
from service.rooms import InRooms, Rooms
from service.routes.answers import HEADERS, answer_accepted, answer_with
from service.routes.parameters import JobId, check_job_id
from service.submission import active_jobs_of
from service.views import JobView

router = APIRouter(tags=["jobs"])


@router.post(
    "/jobs/{job_id}/cancel",
    status_code=202,
    response_model=JobView,
    operation_id="cancelJob",
    summary="Cancel a job",
    responses={
        200: json_answer("Nobody worked on the job; it is cancelled.", cancelled=examples.CANCELLED)
        | {"model": JobView},
        202: json_answer("The job's worker is told to end it.", HEADERS, cancelling=examples.CANCELLING),
        **problems(JobNotFoundError, NotCancellableError),
    },
)
async def cancel_job(job_id: JobId, rooms: InRooms) -> Any:
    """In any state that is no end. A queued or paused job is cancelled at once, a running one within seconds.

    Asking twice changes nothing.
    """
    return await _asked(await rooms.store.request_cancel(check_job_id(job_id)), rooms)


@router.post(
    "/jobs/{job_id}/pause",
    status_code=202,
    response_model=JobView,
    operation_id="pauseJob",
    summary="Put a job aside",
    responses={
        200: json_answer("Nobody worked on the job; it is paused.", paused=examples.PAUSED)
        | {"model": JobView},
        202: json_answer("The job's worker is told to keep a checkpoint.", HEADERS, pausing=examples.PAUSING),
        **problems(JobNotFoundError, NotPausableError),
    },
)
async def pause_job(job_id: JobId, rooms: InRooms) -> Any:
    """A running job keeps a checkpoint and leaves its worker; it goes on from there when it is resumed.

    Asking twice changes nothing.
    """
    return await _asked(await rooms.store.request_pause(check_job_id(job_id)), rooms)


@router.post(
    "/jobs/{job_id}/resume",
    status_code=202,
    response_model=JobView,
    operation_id="resumeJob",
    summary="Go on with a paused job",
    responses={
        202: json_answer("The job is queued, or is so or runs already.", HEADERS, queued=examples.QUEUED),
        **problems(JobNotFoundError, NotResumableError),
    },
)
async def resume_job(job_id: JobId, rooms: InRooms) -> Any:
    """Queued again; its worker goes on from the last checkpoint. Asking twice changes nothing."""
    return await _queued(await rooms.store.resume(check_job_id(job_id)), rooms)


@router.post(
    "/jobs/{job_id}/retry",
    status_code=202,
    response_model=JobView,
    operation_id="retryJob",
    summary="Try a failed or cancelled job once more",
    responses={
        202: json_answer("The job is queued, or is so or runs already.", HEADERS, queued=examples.QUEUED),
        **problems(JobNotFoundError, NotRetriableError, ActiveJobsExceededError),
    },
)
async def retry_job(job_id: JobId, rooms: InRooms, caller: InCaller) -> Any:
    """Queued again, without its error: from the last checkpoint where there is one, else from the start.

    Asking twice changes nothing.
    """
    conditions = Conditions(active_jobs=active_jobs_of(caller, rooms))
    return await _queued(await rooms.store.retry(check_job_id(job_id), conditions), rooms)


async def _asked(job: Job, rooms: Rooms) -> Any:
    """202 while a worker has still to do what was asked for, else 200."""
    return await (answer_accepted(job, rooms) if job.status in HELD else answer_with(job, rooms))


async def _queued(job: Job, rooms: Rooms) -> Any:
    if job.status is Status.QUEUED:
        await rooms.ring(job)
    return await answer_accepted(job, rooms)
