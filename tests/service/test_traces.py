"""One trace from the request to the stages of the child, sent to a collector; nothing where it is off."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import ConfigurationError
from jobs.settings import Settings
from jobs.store import JobStore
from tests.service.conftest import running
from tests.service.samples import small_onnx
from tests.worker.conftest import Bench


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """A receiver of OTLP by HTTP, and the spans that it got."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans: list[Any] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            got = ExportTraceServiceRequest.FromString(body)
            spans.extend(s for r in got.resource_spans for scope in r.scope_spans for s in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", spans
    server.shutdown()
    thread.join()


def test_a_job_is_one_trace_from_its_submission_to_its_stages(
    settings: Settings, store: JobStore, tmp_path: Path, collector: tuple[str, list[Any]]
) -> None:
    url, spans = collector
    folder = tmp_path / "bench"
    folder.mkdir()
    bench = Bench(settings.model_copy(update={"otlp_endpoint": url}), store, folder)
    client_trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with running(bench.settings) as api:
        sent = api.client.post(
            "/jobs",
            files={"model": ("net.onnx", small_onnx())},
            data={"density": "0.5", "dataset": "digits"},
            headers={"traceparent": f"00-{client_trace}-00f067aa0ba902b7-01"},
        )
        job_id = sent.json()["id"]
        bench.supervisor("good").run(job_id)
        assert api.client.get(f"/jobs/{job_id}").json()["status"] == "succeeded"
    by_name = {span.name: span for span in spans}
    assert {"POST /jobs", "run", "child", "pruning"} <= set(by_name)
    assert {span.trace_id.hex() for span in spans} == {client_trace}
    for child, parent in (("run", "POST /jobs"), ("child", "run"), ("pruning", "child")):
        assert by_name[child].parent_span_id == by_name[parent].span_id, child
    said = {a.key: a.value.string_value for a in by_name["run"].attributes}
    assert said["job_id"] == job_id


def test_nothing_is_imported_where_traces_are_off() -> None:
    code = "import sys, service.app, worker.supervisor; sys.exit('opentelemetry.exporter' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_what_is_missing_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs import tracing

    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigurationError, match=r"prunery\[otel\]"):
        tracing.start(settings.model_copy(update={"otlp_endpoint": "http://localhost:4318"}), "prunery-api")
