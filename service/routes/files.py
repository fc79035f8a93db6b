"""The files that a job left: the pruned model, the report, and every other artifact."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Path, Query, Request, Response

from jobs.errors import ArtifactNotFoundError, ArtifactsUnavailableError, JobNotFoundError
from jobs.filenames import saved_as
from jobs.record import ENDED, Artifact, Job, Status
from prune_engine.goals import stop_name
from prune_engine.report import Report
from service import errors
from service.downloads import send_file
from service.negotiation import prefers
from service.openapi.responses import Responses, file_answer, header, problems
from service.rooms import InRooms, Rooms
from service.routes.parameters import JobId, check_job_id

router = APIRouter(tags=["results"])

ENDINGS: Final = (".onnx", ".zip")
REPORT: Final = "report.json"
PAGE: Final = "report.html"
_HTML: Final = "text/html"

_TYPES: Final = ("application/octet-stream", "application/zip", "application/json", _HTML, "image/svg+xml")
_RANGE = header("Where in the file the bytes are.", "bytes 0-99/1094681")
_SIGNED: Final = "https://bucket.s3.eu-central-1.amazonaws.com/prunery/job_.../model.onnx?X-Amz-Signature=..."
_SHARED: Final[Responses] = {
    206: {
        **file_answer("The range that was asked for.", *_TYPES),
        "headers": {"Content-Range": _RANGE},
    },
    304: {"description": "The file is the one that `If-None-Match` names."},
    307: {
        "description": "Files that are saved, from an object store: fetch it there (`curl -L`).",
        "headers": {"Location": header("A signed address, good for a few minutes.", _SIGNED)},
    },
    **problems(
        JobNotFoundError,
        ArtifactNotFoundError,
        ArtifactsUnavailableError,
        errors.ResultNotReadyError,
        errors.RangeNotSatisfiableError,
    ),
}
_NAME: Final = Path(description="Name of the file, as in the job's `artifacts`.", examples=["model.onnx"])


@router.get(
    "/jobs/{job_id}/model",
    operation_id="getModel",
    summary="Download the pruned model",
    response_class=Response,
    responses={
        200: file_answer(
            "The pruned ONNX file, or the zip of it and its data files.",
            "application/octet-stream",
            "application/zip",
        ),
        **_SHARED,
        **problems(errors.ParameterInvalidError),
    },
)
async def get_model(
    job_id: JobId,
    request: Request,
    rooms: InRooms,
    density: Annotated[
        float | None,
        Query(
            gt=0.0,
            le=1.0,
            description="Which of a `frontier`'s models; without it the sparsest.",
            examples=[0.1],
        ),
    ] = None,
) -> Response:
    """The pruned ONNX. `curl -OJL` names it after the model that was sent: `resnet20.pruned.onnx`.

    A model that came as a zip with data files goes back as one: `llama.pruned.zip`. Of a frontier every
    density has its model: `?density=0.1`.
    """
    job = await _succeeded(job_id, rooms)
    stem = "model" if density is None else _stem(job, density)
    names = {file.name for file in job.result.artifacts} if job.result else set()
    model = _artifact(job, next((stem + end for end in ENDINGS if stem + end in names), stem + ENDINGS[0]))
    filename = saved_as(job.model.filename, model.name).filename
    return await send_file(request, rooms.artifacts, job_id, model, filename=filename)


@router.get(
    "/jobs/{job_id}/report",
    operation_id="getReport",
    summary="Read the report",
    response_class=Response,
    responses={
        200: {
            **file_answer("The report: JSON, or a page.", "application/json", _HTML),
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/Report"}},
                _HTML: {"schema": {"type": "string"}, "example": "<!DOCTYPE html><title>Report</title>"},
            },
        },
        **_SHARED,
        **problems(errors.ParameterInvalidError),
    },
)
async def get_report(
    job_id: JobId,
    request: Request,
    rooms: InRooms,
    format: Annotated[
        str | None,
        Query(pattern="^(json|html)$", description="`json` or `html`; else by `Accept`.", examples=["html"]),
    ] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """JSON by default; with `Accept: text/html`, as browsers send it, or `?format=html`, a page."""
    job = await _succeeded(job_id, rooms)
    html = format == "html" if format else prefers(accept, _HTML, "application/json") == _HTML
    return await send_file(request, rooms.artifacts, job_id, _artifact(job, PAGE if html else REPORT))


@router.get(
    "/jobs/{job_id}/artifacts/{name:path}",
    operation_id="getArtifact",
    summary="Download a file of the job",
    response_class=Response,
    responses={200: file_answer("The file.", *_TYPES), **_SHARED},
)
async def get_artifact(
    job_id: JobId, name: Annotated[str, _NAME], request: Request, rooms: InRooms
) -> Response:
    """Any file in the job's `artifacts`, whole or in ranges."""
    job = await _succeeded(job_id, rooms)
    return await send_file(request, rooms.artifacts, job_id, _artifact(job, name))


for path, endpoint in (
    ("/jobs/{job_id}/model", get_model),
    ("/jobs/{job_id}/report", get_report),
    ("/jobs/{job_id}/artifacts/{name:path}", get_artifact),
):
    router.head(path, include_in_schema=False, response_class=Response)(endpoint)


async def _succeeded(job_id: str, rooms: Rooms) -> Job:
    """The job, which has a result.

    Raises:
        JobNotFoundError, ResultNotReadyError.
    """
    job = await rooms.store.get(check_job_id(job_id))
    if job.status is Status.SUCCEEDED and job.result is not None:
        return job
    if job.status not in ENDED:
        raise errors.ResultNotReadyError(
            f"{job.id} is {job.status}; its result is there once it has succeeded: GET /jobs/{job.id}?wait=30"
        )
    why = f": {job.error.message}" if job.error else ""
    raise errors.ResultNotReadyError(f"{job.id} is {job.status} and has no result{why}")


def _artifact(job: Job, name: str) -> Artifact:
    files = job.result.artifacts if job.result else []
    for file in files:
        if file.name == name:
            return file
    there = ", ".join(file.name for file in files)
    raise ArtifactNotFoundError(f"{job.id} has no file '{name[:100]}'; it has {there}", param="name")


def _stem(job: Job, density: float) -> str:
    """The file of a density, without its ending.

    Raises:
        ParameterInvalidError: the job has no model of that density.
    """
    there = job.spec.frontier or (() if job.spec.density is None else (job.spec.density,))
    asked = next((one for one in there if math.isclose(one, density, rel_tol=1e-9)), None)
    if asked is None:
        said = f"it has {', '.join(f'{one:.12g}' for one in there)}" if there else "leave density out"
        raise errors.ParameterInvalidError(
            f"density: {job.id} has no model of density {density:.12g}; {said}", param="density"
        )
    return stop_name(asked) if job.spec.frontier else "model"


def components() -> dict[str, Any]:
    """The schema of a report, to which `getReport` refers."""
    schema = Report.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
    parts: dict[str, Any] = schema.pop("$defs", {})
    return {**parts, "Report": schema}
