"""Looking through a model before any job."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from jobs.errors import (
    DiskFullError,
    HubDatasetsOffError,
    OutgoingRefusedError,
    TooLargeError,
    WebhookInvalidError,
    WebhooksOffError,
)
from prune_engine.errors import (
    ConversionError,
    DataEmptyError,
    DataError,
    DataFormatError,
    DataUnsafeError,
    ModelEmptyError,
    ModelError,
    ModelFormatError,
    SpecError,
    UnknownDatasetError,
)
from prune_engine.inspection import Inspection
from service import errors, inspection
from service.openapi.form import request_body
from service.openapi.inspections import INSPECTED
from service.openapi.responses import Responses, problems
from service.rooms import InRooms

router = APIRouter(tags=["models"])

Format = Annotated[
    str | None,
    Query(pattern="^(json|html)$", description="`json` or `html`; else by `Accept`.", examples=["html"]),
]
Accept = Annotated[str, Header(include_in_schema=False)]

REFUSALS: Responses = problems(
    errors.MultipartInvalidError,
    errors.MultipartRequiredError,
    errors.ParameterInvalidError,
    errors.FieldMissingError,
    errors.FieldUnknownError,
    errors.FieldRepeatedError,
    errors.FieldConflictError,
    errors.FieldInvalidError,
    errors.FieldTooLargeError,
    errors.InspectionBusyError,
    errors.InspectionTimeoutError,
    errors.InspectionCrashedError,
    TooLargeError,
    SpecError,
    ModelEmptyError,
    ModelFormatError,
    ModelError,
    ConversionError,
    DataEmptyError,
    DataFormatError,
    DataUnsafeError,
    DataError,
    UnknownDatasetError,
    DiskFullError,
    HubDatasetsOffError,
    WebhooksOffError,
    WebhookInvalidError,
    OutgoingRefusedError,
)


@router.post(
    "/models/inspect",
    response_class=Response,
    operation_id="inspectModel",
    summary="Look through a model",
    openapi_extra={"requestBody": request_body(required=("model",))},
    responses={200: INSPECTED, **REFUSALS},
)
async def inspect_model(request: Request, rooms: InRooms, format: Format = None, accept: Accept = "") -> Any:
    """What a job would find, in seconds: operators, weights, densities, memory, time, and what is wrong.

    The form is that of a job, of which only `model` is needed. Nothing is queued, and nothing is kept. A
    model that can be read but not pruned is answered with 200, `prunable: false` and every problem.
    """
    return inspection.answer(await inspection.inspect(request, rooms), format, accept)


def components() -> dict[str, Any]:
    """The schema of an inspection, to which the operations refer."""
    schema = Inspection.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
    parts: dict[str, Any] = schema.pop("$defs", {})
    return {**parts, "Inspection": schema}
