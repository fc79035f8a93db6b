"""The OpenAPI document: FastAPI's, made to say what is true of every answer."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from service.caller import needed
from service.errors import InternalError
from service.openapi.form import spec_components
from service.openapi.responses import gate_answers, header, merged
from service.problems import MEDIA_TYPE, Problem, problem_of
from service.routes import files, models

DESCRIPTION = """Pruning as a service: send a trained model and a density, get back a pruned ONNX file of
exactly that density and a report that tells what it cost and what it bought.

    curl -F model=@resnet20.onnx -F density=0.1 -F dataset=cifar10 localhost:8000/jobs

Where the service has API keys, send yours as `Authorization: Bearer prn_...` (or `X-API-Key`); a key sees its
own jobs only.

Every refusal is a problem (RFC 9457) with a stable `code`. Every answer carries `X-Request-ID`.
"""
SCHEMES: dict[str, Any] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "prn_<id>_<secret>",
        "description": "A key that `prunery keys create` made. Not needed where the service has no keys.",
    },
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
}
TAGS = [
    {"name": "jobs", "description": "Submit, watch, cancel and delete pruning jobs."},
    {"name": "results", "description": "The pruned model, the report and every other file of a job."},
    {"name": "webhooks", "description": "What was sent to a job's webhook."},
    {"name": "models", "description": "Look through a model before any job."},
    {"name": "data sets", "description": "The data sets that a job may name."},
    {"name": "operation", "description": "Health, readiness and metrics."},
]


def install(app: FastAPI) -> None:
    """Make `app.openapi()` answer with this module's document."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=DESCRIPTION,
        routes=app.routes,
        tags=TAGS,
        license_info={"name": "Apache 2.0", "identifier": "Apache-2.0"},
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(spec_components())
    schemas.update(files.components())
    schemas.update(models.components())
    schemas["Problem"] = Problem.model_json_schema(mode="serialization")
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    failure = problem_of(InternalError("the service failed; its log has the reason"), "req_8d3f6c1e5a7b9024")
    _restore_examples(document, app.state.routes)
    document["components"]["securitySchemes"] = SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if needed(path, method.upper()) is not None:
                operation["security"] = [*({name: []} for name in SCHEMES), {}]
                operation["responses"] = merged(
                    operation["responses"], {str(status): answer for status, answer in gate_answers().items()}
                )
            _complete(operation["responses"], failure)
    return document


def _restore_examples(document: dict[str, Any], routes: list[APIRoute]) -> None:
    """Put the examples in again as they were written: FastAPI drops every null of them."""
    for route in routes:
        if not route.include_in_schema:
            continue
        operations = document["paths"][route.path_format]
        for method in route.methods or ():
            for status, answer in route.responses.items():
                for kind, content in answer.get("content", {}).items():
                    there = operations[method.lower()]["responses"][str(status)]["content"][kind]
                    there.update({name: content[name] for name in ("example", "examples") if name in content})


def _complete(responses: dict[str, Any], failure: Problem) -> None:
    """Drop FastAPI's own 422; say what a failure and every answer's headers look like."""
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]
    responses["500"] = {
        "description": failure.title,
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "example": failure.model_dump(mode="json"),
            }
        },
    }
    for response in responses.values():
        response.setdefault("headers", {})["X-Request-ID"] = header(
            "The request's id: the one that was sent, or a new one.", "req_8d3f6c1e5a7b9024"
        )
