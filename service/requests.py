"""What happens around every request: an id, a line in the log, its place in the metrics, a last safety net.

Plain ASGI and no `BaseHTTPMiddleware`, which would put a task and a queue between all chunks of an answer.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import MutableMapping
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs import tracing
from service.errors import InternalError
from service.metrics import Metrics
from service.problems import problem_response

_GIVEN_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_READING = frozenset({"GET", "HEAD"})
_log = structlog.get_logger("service")


def request_id_of(scope: MutableMapping[str, Any]) -> str | None:
    """The id of the request that is being handled."""
    found: str | None = scope.get("state", {}).get("request_id")
    return found


class RequestMiddleware:
    """Wraps the application. The client's `X-Request-ID` is kept where it is well-formed."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        began = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message.setdefault("headers", [])
                headers.append((b"x-request-id", request_id.encode()))
                more = scope["state"].get("headers", {})
                headers += [(name.lower().encode(), value.encode()) for name, value in more.items()]
            await send(message)

        try:
            with _traced(scope):
                await self._app(scope, receive, send_with_id)
        except Exception as error:  # noqa: BLE001 - the last net: whatever it is, it is logged and answered
            _log.error("failed", method=scope["method"], path=scope["path"], exc_info=error)
            if not status:
                answer = problem_response(
                    InternalError("the service failed; its log has the reason under this request id"),
                    request_id,
                )
                await answer(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - began
            self._metrics.answered(scope["method"], _route(scope), status, seconds)
            # Clients that poll would fill the log with what the metrics count already.
            if scope["method"] not in _READING or not 200 <= status < 400:
                _log.info(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status or None,
                    ms=round(seconds * 1000, 1),
                )


def _traced(scope: Scope) -> contextlib.AbstractContextManager[None]:
    """A span of the request, below the client's own; none for those that only read, as in the log."""
    if scope["method"] in _READING:
        return contextlib.nullcontext()
    parent = next(
        (value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), None
    )
    return tracing.span(
        f"{scope['method']} {scope['path'].partition('/job_')[0]}",
        parent,
        path=scope["path"],
        request_id=scope["state"]["request_id"],
    )


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _GIVEN_ID.fullmatch(value):
            return bytes(value).decode()
    return f"req_{secrets.token_hex(8)}"


def _route(scope: Scope) -> str:
    """The template of the path, so that a metric's labels stay few."""
    return getattr(scope.get("route"), "path", None) or "none"
