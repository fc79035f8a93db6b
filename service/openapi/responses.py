"""The answers of an operation as OpenAPI wants them, each with an example."""

from __future__ import annotations

import copy
from typing import Any, Final

from jobs import errors as jobs_errors
from prune_engine import errors as engine_errors
from prune_engine.errors import PruneError
from service import errors
from service.openapi.examples import JOB_ID
from service.problems import MEDIA_TYPE, problem_of, status_of

Responses = dict[int | str, dict[str, Any]]

# One example of each problem that an operation may name; the sentences are those that are really sent.
_EXAMPLES: Final[tuple[PruneError, ...]] = (
    errors.KeyRequiredError("this needs an API key: send `Authorization: Bearer prn_...`"),
    errors.KeyUnknownError("no such API key was made here: `prunery keys create` makes a key"),
    errors.KeyExpiredError("the key 4216012d2f86 ended at 2026-11-01 00:00:00+00:00; ask for another one"),
    errors.KeyRevokedError("the key 4216012d2f86 was revoked; ask for another one"),
    errors.ScopeMissingError("this needs the scope jobs:write; the key 4216012d2f86 has jobs:read"),
    errors.HostNotAllowedError("'evil.example' is not a name of this service"),
    errors.OriginNotAllowedError("a page of https://evil.example may not send this"),
    errors.RequestsExceededError("the key 4216012d2f86 may make 600 requests a minute; ask less often"),
    errors.IdempotencyKeyInvalidError(
        "an Idempotency-Key has 1 to 255 visible ASCII characters", param="Idempotency-Key"
    ),
    errors.IdempotencyKeyReusedError(
        "this Idempotency-Key came with another request; a new request needs a new key",
        param="Idempotency-Key",
    ),
    errors.StorageExceededError(
        "the files of this key's jobs may have 107,374,182,400 bytes together, and there is room for "
        "1,048,576 more; delete jobs that have ended"
    ),
    errors.MultipartRequiredError("Content-Type is application/json; send the fields as multipart/form-data"),
    errors.MultipartInvalidError(
        "the body ends before its closing boundary; the upload was cut short, send it again"
    ),
    errors.ParameterInvalidError("limit: should be less than or equal to 100 (got '1000')", param="limit"),
    errors.FieldMissingError("model is missing; send it with curl -F model=@model.onnx", param="model"),
    errors.FieldUnknownError("'densty' is no field of a job; the fields are model, ...", param="densty"),
    errors.FieldRepeatedError("density was sent more than once", param="density"),
    errors.FieldConflictError(
        "density was sent as a field and in spec; send it in one of the two", param="density"
    ),
    errors.FieldInvalidError("model must be a file with a file name: curl -F model=@FILE", param="model"),
    errors.FieldTooLargeError("spec: a field may have 65,536 bytes at most", param="spec"),
    errors.RangeNotSatisfiableError("the file has 1,094,681 bytes; the range begins beyond them"),
    errors.ResultNotReadyError(f"{JOB_ID} is running; its result is there once it has succeeded"),
    jobs_errors.JobNotFoundError(JOB_ID),
    jobs_errors.IdempotencyKeyInUseError("the first request with this Idempotency-Key is under way"),
    jobs_errors.ActiveJobsExceededError("100 jobs of this key have not ended; wait for one, or cancel one"),
    jobs_errors.ArtifactNotFoundError(f"{JOB_ID} has no file 'weights.bin'; it has model.onnx, report.json"),
    jobs_errors.NotCancellableError(f"{JOB_ID} is succeeded; there is nothing to cancel"),
    jobs_errors.NotPausableError(f"{JOB_ID} is succeeded and cannot become pausing"),
    jobs_errors.NotResumableError(f"{JOB_ID} is failed; only a paused job can be resumed"),
    jobs_errors.NotRetriableError(
        f"{JOB_ID} is paused; only a failed or cancelled job can be tried once more"
    ),
    jobs_errors.NotDeletableError(f"{JOB_ID} is running; cancel it first"),
    jobs_errors.EventIdError("'abc' is no event id; use the id of an event of this job", param="after"),
    jobs_errors.HubDatasetsOffError("hf:owner/name"),
    jobs_errors.WebhooksOffError("this service tells no webhooks; leave webhook out and ask for the job"),
    jobs_errors.WebhookInvalidError("webhook_events must be some of job.started, job.succeeded, ..."),
    jobs_errors.OutgoingRefusedError("webhook: only https:// is sent to", param="webhook"),
    jobs_errors.WebhookNotFoundError(f"{JOB_ID} was sent without a webhook"),
    jobs_errors.DeliveryNotFoundError(f"{JOB_ID} has no delivery 'msg_0'", param="delivery_id"),
    jobs_errors.DeliveryBusyError("msg_0 is being sent just now; look again in a few seconds"),
    jobs_errors.DiskFullError(
        "the disk has 0.9 GB free, of which 1.1 GB are kept for jobs that run; send it later"
    ),
    jobs_errors.TooLargeError("the file is larger than 4294967296 bytes", param="model"),
    jobs_errors.StoreUnavailableError("the job store does not answer; check REDIS_URL and the server"),
    jobs_errors.ArtifactsUnavailableError("the artifact store failed; check ARTIFACTS_URL and its disk"),
    engine_errors.SpecError("density: should be less than or equal to 1 (got '1.5')", param="density"),
    engine_errors.ModelEmptyError("m.onnx is empty: 0 bytes came in; check the path after model=@"),
    engine_errors.ModelError("m.onnx is truncated: it ends at byte 4,096; send the whole file"),
    engine_errors.ModelFormatError(
        "m.onnx is a PNG image. How to export a model as ONNX is in docs/models.md"
    ),
    engine_errors.ConversionError(
        "A TorchScript file does not say which shapes it takes; send data with the model, or input_specs"
    ),
    errors.InspectionBusyError("2 models are being looked through; try again in a few seconds"),
    errors.InspectionTimeoutError("the model could not be looked through within 60 s; submit the job"),
    errors.InspectionCrashedError(
        "the process that looked through the model is gone: it was ended by SIGSEGV: native code crashed"
    ),
    engine_errors.DataEmptyError("d.npz is empty: 0 bytes came in; check the path after dataset=@"),
    engine_errors.DataError("d.npz is a damaged zip archive: its directory is missing; send the whole file"),
    engine_errors.DataFormatError(
        "d.txt is none of the formats that are read; send an .npz, a .zip of image folders, a .csv or a "
        ".parquet"
    ),
    engine_errors.DataUnsafeError(
        "d.zip has a member whose name leads out of its folder: '../x'; pack it again"
    ),
    engine_errors.UnknownDatasetError("'cifar11' is no known data set; GET /datasets lists those there are"),
)
_BY_TYPE: Final = {type(error): error for error in _EXAMPLES}


def problems(*kinds: type[PruneError]) -> Responses:
    """The answers for these errors, by status, with an example of each code."""
    responses: Responses = {}
    for kind in (*kinds, jobs_errors.StoreUnavailableError):
        error = _BY_TYPE[kind]
        problem = problem_of(error, "req_8d3f6c1e5a7b9024")
        response = responses.setdefault(
            status_of(error),
            {
                "description": problem.title,
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        response["content"][MEDIA_TYPE]["examples"][error.code] = {
            "summary": problem.title,
            "value": problem.model_dump(mode="json"),
        }
    return responses


def merged(one: Responses, other: Responses) -> Responses:
    """The answers of both; those of one status have the examples of both."""
    answers = copy.deepcopy(one)
    for status, answer in copy.deepcopy(other).items():
        here = answers.setdefault(status, answer)
        for kind, content in answer["content"].items():
            here["content"].setdefault(kind, content).setdefault("examples", {}).update(content["examples"])
    return answers


def gate_answers() -> Responses:
    """What any operation may answer whose caller needs a key."""
    answers = problems(
        errors.KeyRequiredError,
        errors.KeyUnknownError,
        errors.KeyExpiredError,
        errors.KeyRevokedError,
        errors.ScopeMissingError,
        errors.HostNotAllowedError,
        errors.OriginNotAllowedError,
        errors.RequestsExceededError,
    )
    answers[401]["headers"] = {"WWW-Authenticate": header("How to ask.", 'Bearer realm="prunery"')}
    return answers


def json_answer(
    description: str, headers: dict[str, Any] | None = None, /, **examples: Any
) -> dict[str, Any]:
    """An answer in JSON with named examples."""
    answer: dict[str, Any] = {
        "description": description,
        "content": {
            "application/json": {"examples": {name: {"value": value} for name, value in examples.items()}}
        },
    }
    if headers:
        answer["headers"] = headers
    return answer


def header(description: str, example: str, kind: str = "string") -> dict[str, Any]:
    """A header of an answer."""
    return {"description": description, "required": True, "schema": {"type": kind}, "example": example}


def file_answer(description: str, *media_types: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    """An answer that is a file."""
    shape = schema or {"type": "string", "format": "binary"}
    return {
        "description": description,
        "headers": {
            "ETag": header("The file's SHA-256 in quotes.", '"5b1f0f6e"'),
            "Accept-Ranges": header("Ranges of bytes may be asked for.", "bytes"),
        },
        "content": {kind: {"schema": shape} for kind in media_types},
    }
