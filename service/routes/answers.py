"""How a job is answered with: as clients see it, with its place in the queue, and when to ask again."""

from __future__ import annotations

from typing import Final

from fastapi import Response

from jobs.record import Job, Status
from service.openapi import examples
from service.openapi.responses import header
from service.rooms import Rooms
from service.views import JobList, JobView, job_path, view_of

# Seconds until it is worth asking for a job again.
_RETRY_AFTER: Final = "2"
HEADERS: Final = {
    "Location": header("Path of the job.", f"/jobs/{examples.JOB_ID}"),
    "Retry-After": header("Seconds until it is worth asking.", _RETRY_AFTER),
}


async def answer_with(
    job: Job,
    rooms: Rooms,
    status: int = 200,
    headers: dict[str, str] | None = None,
    secret: str | None = None,
) -> Response:
    """The job as it is; with its webhook's secret, where that is to be told."""
    queued = job.status is Status.QUEUED
    position = await rooms.store.queue_position(job.id) if queued else None
    return in_json(view_of(job, position, rooms.retention.expires_at(job), secret), status, headers)


async def answer_accepted(job: Job, rooms: Rooms, secret: str | None = None) -> Response:
    """The job, something of which is yet to come; with `HEADERS`."""
    headers = {"Location": job_path(job.id), "Retry-After": _RETRY_AFTER}
    return await answer_with(job, rooms, 202, headers, secret)


def in_json(view: JobView | JobList, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The view as it is: it was built here, so FastAPI need not validate it a second time."""
    return Response(
        view.model_dump_json(), status_code=status, headers=headers, media_type="application/json"
    )
