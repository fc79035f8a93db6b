"""A real uvicorn with the API in this process, over this test's own Valkey prefix and data folder."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from jobs import logs
from jobs.settings import Settings
from service.server import Server, create_server
from tests.service.samples import small_onnx


@pytest.fixture(autouse=True, scope="session")
def _quiet() -> None:
    logs.configure(logging.CRITICAL)


@dataclass(frozen=True)
class Api:
    """A running API."""

    url: str
    client: httpx.Client
    settings: Settings
    server: Server

    @property
    def artifacts(self) -> Path:
        """The folder of the artifact store."""
        return self.settings.data_dir / "artifacts"

    def stored(self) -> list[Path]:
        """Every file and folder in the artifact store."""
        while True:
            try:
                return sorted(self.artifacts.rglob("*")) if self.artifacts.exists() else []
            except FileNotFoundError:  # deleted while it was looked through
                continue

    def submit(self, model: bytes | None = None, filename: str = "net.onnx", **fields: str) -> httpx.Response:
        """Send a job: by default a small ONNX model, the digits and density 0.5."""
        return self.client.post(
            "/jobs",
            files={"model": (filename, small_onnx() if model is None else model)},
            data={"density": "0.5", "dataset": "digits"} | fields,
        )


@contextmanager
def running(settings: Settings) -> Iterator[Api]:
    """The API until the block ends."""
    server = create_server(settings.model_copy(update={"port": 0}))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 10
    while not server.started:
        assert thread.is_alive(), "the server ended while it started"
        assert time.monotonic() < until, "the server did not start"
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, timeout=30) as client:
        yield Api(url, client, settings, server)
    server.should_exit = True
    thread.join(15)
    assert not thread.is_alive(), "the server did not end"


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    """A running API without a worker."""
    with running(settings) as started:
        yield started
