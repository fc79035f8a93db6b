"""Problem details (RFC 9457): how every refusal and failure is answered."""

from __future__ import annotations

from typing import Final

from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from jobs import errors as jobs_errors
from prune_engine.errors import (
    DatasetUnavailableError,
    DataUnsafeError,
    DeviceError,
    EngineError,
    InputError,
    ModelUnsafeError,
    PruneError,
    SpecError,
)
from service.errors import ServiceError

MEDIA_TYPE: Final = "application/problem+json"

# Errors of the other rooms -> HTTP status and title. The nearest class in an error's ancestry counts.
_STATUS: Final[dict[type[PruneError], tuple[int, str]]] = {
    PruneError: (500, "The service failed"),
    InputError: (422, "What was sent cannot be used"),
    SpecError: (422, "The specification is not valid"),
    ModelUnsafeError: (422, "The model file is not safe to load"),
    DataUnsafeError: (422, "The data file is not safe to read"),
    DatasetUnavailableError: (503, "The data set cannot be fetched"),
    DeviceError: (422, "The device is not available"),
    EngineError: (500, "The engine failed"),
    jobs_errors.JobNotFoundError: (404, "There is no such job"),
    jobs_errors.JobExistsError: (409, "The job exists already"),
    jobs_errors.ActiveJobsExceededError: (429, "The key has as many jobs as it may have"),
    jobs_errors.IdempotencyKeyInUseError: (409, "The first request with this Idempotency-Key is under way"),
    jobs_errors.InvalidTransitionError: (409, "The job's status does not allow this"),
    jobs_errors.ArtifactNotFoundError: (404, "The job has no such file"),
    jobs_errors.KeyNotFoundError: (404, "There is no such key"),
    jobs_errors.HubDatasetsOffError: (422, "This data set is not fetched here"),
    jobs_errors.TooLargeError: (413, "The file is too large"),
    jobs_errors.WebhooksOffError: (422, "This service tells no webhooks"),
    jobs_errors.WebhookInvalidError: (422, "The webhook cannot be used"),
    jobs_errors.WebhookNotFoundError: (404, "The job has no webhook"),
    jobs_errors.DeliveryNotFoundError: (404, "There is no such delivery"),
    jobs_errors.DeliveryBusyError: (409, "The message is being sent"),
    jobs_errors.OutgoingRefusedError: (422, "The address may not be sent to"),
    jobs_errors.OutgoingFailedError: (502, "The address did not answer"),
    jobs_errors.SandboxUnavailableError: (503, "There is no sandbox to run models in"),
    jobs_errors.StoreUnavailableError: (503, "The job store cannot be reached"),
    jobs_errors.DiskFullError: (507, "The disk is nearly full"),
    jobs_errors.ArtifactsUnavailableError: (503, "The artifact store cannot be used"),
}
# Seconds after which it is worth trying again, where the error does not say it itself.
_RETRY_AFTER: Final = {429: 30, 503: 5}
_RETRY_AFTER_CODE: Final = {jobs_errors.IdempotencyKeyInUseError.code: 2}


class Problem(BaseModel):
    """A problem as RFC 9457 describes it, with a stable code."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="`urn:prunery:problem:` and the code.")
    title: str = Field(description="What kind of problem this is; the same for every occurrence.")
    status: int = Field(description="The HTTP status.", ge=400, le=599)
    detail: str = Field(description="What was wrong, where, and what to do about it.")
    code: str = Field(description="A stable code for programs; docs/errors.md lists them all.")
    param: str | None = Field(description="The parameter to blame; null where there is none.")
    request_id: str | None = Field(
        None, description="The same as the X-Request-ID header; the service's log has it."
    )


def status_of(error: PruneError) -> int:
    """The HTTP status that an error is answered with."""
    return _status_and_title(error)[0]


def problem_of(error: PruneError, request_id: str | None) -> Problem:
    """The problem that tells a client of `error`."""
    status, title = _status_and_title(error)
    return Problem(
        type=f"urn:prunery:problem:{error.code}",
        title=title,
        status=status,
        detail=error.message,
        code=error.code,
        param=error.param,
        request_id=request_id,
    )


def problem_response(error: PruneError, request_id: str | None) -> Response:
    """The answer to a request that ended with `error`."""
    problem = problem_of(error, request_id)
    headers = dict(error.headers) if isinstance(error, ServiceError) else {}
    if seconds := _RETRY_AFTER.get(problem.status) or _RETRY_AFTER_CODE.get(problem.code):
        headers.setdefault("Retry-After", str(seconds))
    if problem.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="prunery"' + (
            "" if problem.code == "key_required" else ', error="invalid_token"'
        )
    return Response(
        problem.model_dump_json(), status_code=problem.status, headers=headers, media_type=MEDIA_TYPE
    )


def _status_and_title(error: PruneError) -> tuple[int, str]:
    if isinstance(error, ServiceError):
        return error.status, error.title
    for ancestor in type(error).__mro__:
        if ancestor in _STATUS:
            return _STATUS[ancestor]
    raise AssertionError("every PruneError has PruneError in its ancestry")
