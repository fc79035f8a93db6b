"""Whatever goes wrong while a request is handled becomes a problem; nothing of the inside gets out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from prune_engine.errors import PruneError
from service.errors import (
    InternalError,
    MethodNotAllowedError,
    ParameterInvalidError,
    RequestError,
    RouteNotFoundError,
)
from service.problems import problem_response, status_of
from service.requests import request_id_of

_log = structlog.get_logger("service")


def install(app: FastAPI) -> None:
    """Give `app` the handlers of this module."""
    app.exception_handler(PruneError)(_on_prune_error)
    app.exception_handler(RequestValidationError)(_on_validation_error)
    app.exception_handler(HTTPException)(_on_http_exception)


async def _on_prune_error(request: Request, error: PruneError) -> Response:
    if status_of(error) >= 500:
        _log.error("refused", code=error.code, detail=error.message, exc_info=error)
    return problem_response(error, request_id_of(request.scope))


async def _on_validation_error(request: Request, error: RequestValidationError) -> Response:
    return problem_response(_parameter_error(error.errors()), request_id_of(request.scope))


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    """The framework's own refusals: no route, wrong method, and what a library may raise."""
    path = request.url.path
    problem: PruneError
    if error.status_code == 404:
        problem = RouteNotFoundError(f"there is nothing at {path}; GET / lists what there is")
    elif error.status_code == 405:
        problem = MethodNotAllowedError(
            f"{path} does not answer to {request.method}; it answers to {(allowed := _allowed(request))}",
            headers={"Allow": allowed},
        )
    elif error.status_code < 500:
        problem = RequestError(f"the request cannot be understood: {error.detail}", headers=error.headers)
    else:
        problem = InternalError("the service failed; its log has the reason under this request id")
    return problem_response(problem, request_id_of(request.scope))


def _allowed(request: Request) -> str:
    """The methods of every route with this path; the router names only those of the first."""
    routes: list[APIRoute] = request.app.state.routes
    here = [route for route in routes if route.path_regex.match(request.url.path)]
    return ", ".join(sorted({method for route in here for method in route.methods or ()}))


def _parameter_error(complaints: Sequence[Any]) -> ParameterInvalidError:
    sentences = []
    for complaint in complaints:
        name = str(complaint["loc"][-1])
        said = str(complaint["msg"]).replace("Input should be", "should be")
        sentences.append(f"{name}: {said} (got {str(complaint.get('input'))[:80]!r})")
    first = str(complaints[0]["loc"][-1]) if complaints else None
    return ParameterInvalidError("; ".join(sentences), param=first)
