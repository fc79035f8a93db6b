"""OpenTelemetry traces: one from the request that sends a job to the last stage of its child. Off unless set.

`OTEL_EXPORTER_OTLP_ENDPOINT` switches them on and needs `prunery[otel]`; without it nothing is imported, and
a span costs a function call. The job's record carries the place in the trace (W3C `traceparent`) from the API
to whichever worker runs it. The child has no network: its worker makes spans of the stages that it tells of.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.errors import ConfigurationError
from jobs.settings import Settings

Value = str | int | float | bool


class _Off:
    """No traces."""

    def span(self, *_: Any) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def stage(self, *_: Any) -> None:
        return

    def here(self) -> None:
        return

    def close(self) -> None:
        return


class _On:
    """Sends spans to a collector, from a thread of its own."""

    def __init__(self, endpoint: str, service: str) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise ConfigurationError(
                "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed; "
                "pip install 'prunery[otel]', or unset it",
                param="otlp_endpoint",
            ) from error
        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": service}), shutdown_on_exit=False
        )
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("prunery")

    @contextlib.contextmanager
    def span(self, name: str, parent: str | None, attributes: Mapping[str, Value]) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            name, context=self._context(parent), attributes=dict(attributes)
        ):
            yield

    def stage(self, name: str, began: float, ended: float, attributes: Mapping[str, Value]) -> None:
        span = self._tracer.start_span(name, start_time=int(began * 1e9), attributes=dict(attributes))
        span.end(int(max(began, ended) * 1e9))

    def here(self) -> str | None:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier.get("traceparent")

    def close(self) -> None:
        self._provider.shutdown()

    def _context(self, parent: str | None) -> Any:
        return self._propagator.extract({"traceparent": parent}) if parent else None


_tracing: _Off | _On = _Off()


def start(settings: Settings, service: str) -> None:
    """Trace what this process does from now on, where the settings say so.

    Raises:
        ConfigurationError: they do, and OpenTelemetry is not installed.
    """
    global _tracing
    close()
    if settings.otlp_endpoint is not None:
        _tracing = _On(settings.otlp_endpoint, service)


def close() -> None:
    """Send what is left, and trace no more."""
    global _tracing
    was, _tracing = _tracing, _Off()
    was.close()


def span(
    name: str, parent: str | None = None, /, **attributes: Value
) -> contextlib.AbstractContextManager[None]:
    """A span until the block ends: below `parent` (a `traceparent`), or below the one around it."""
    return _tracing.span(name, parent, attributes)


def stage(name: str, began: float, ended: float, /, **attributes: Value) -> None:
    """A span that is over, below the one around it; times in seconds since 1970."""
    _tracing.stage(name, began, ended, attributes)


def here() -> str | None:
    """The `traceparent` of the span around the caller; None where nothing is traced."""
    return _tracing.here()
