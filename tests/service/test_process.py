"""The API as a process of its own: quick and light to import, flat in memory, clean in its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest

from jobs.settings import Settings
from tests.service.samples import small_onnx

MB = 1024 * 1024


def test_importing_the_application_is_quick_and_brings_nothing_heavy() -> None:
    program = (
        "import time, sys; began = time.process_time(); import service.app; "
        "seconds = time.process_time() - began; "
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy', 'matplotlib', 'celery', 'sklearn'}; "
        "print(seconds, *(heavy & set(sys.modules)))"
    )
    best = 10.0
    for _ in range(3):
        output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        seconds, *heavy = output.stdout.split()
        assert heavy == []
        best = min(best, float(seconds))
    assert best < 1.0


@contextmanager
def process(settings: Settings) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "PRUNERY_PORT": str(port),
        "PRUNERY_DATA_DIR": str(settings.data_dir),
        "PRUNERY_REDIS_PREFIX": settings.redis_prefix,
        "REDIS_URL": str(settings.redis_url),
    }
    if settings.tls_cert is not None:
        environment |= {"PRUNERY_TLS_CERT": str(settings.tls_cert), "PRUNERY_TLS_KEY": str(settings.tls_key)}
    started = subprocess.Popen([sys.executable, "-m", "service.server"], env=environment)
    url = f"{'http' if settings.tls_cert is None else 'https'}://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 30
        while True:
            try:
                httpx.get(f"{url}/healthz", verify=False)
                break
            except httpx.TransportError:
                assert time.monotonic() < until
                time.sleep(0.02)
        yield started, url
    finally:
        started.kill()
        started.wait(10)


@pytest.mark.slow
def test_an_upload_of_any_size_leaves_the_memory_flat(settings: Settings) -> None:
    """400 MB here; benchmarks/api.py sends 2 GB."""
    size = 400 * MB
    head = b'--f\r\nContent-Disposition: form-data; name="model"; filename="m.onnx"\r\n\r\n'
    varint = bytes([(size >> shift & 0x7F) | 0x80 for shift in (0, 7, 14, 21)]) + bytes([size >> 28 & 0x7F])
    rest = b"".join(
        b'\r\n--f\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s' % pair
        for pair in ((b"density", b"0.5"), (b"dataset", b"digits"))
    )
    piece = os.urandom(MB)

    def body() -> Iterator[bytes]:
        yield head + small_onnx()[:2] + b"\x3a" + varint
        for _ in range(size // MB):
            yield piece
        yield rest + b"\r\n--f--\r\n"

    with process(settings) as (started, url):
        watched = psutil.Process(started.pid)
        httpx.post(f"{url}/jobs", files={"model": ("m.onnx", small_onnx())}, data={"density": "2"})
        before = watched.memory_info().rss
        peak = before

        def watching() -> Iterator[bytes]:
            nonlocal peak
            for chunk in body():
                peak = max(peak, watched.memory_info().rss)
                yield chunk

        answer = httpx.post(
            f"{url}/jobs",
            content=watching(),
            headers={"Content-Type": "multipart/form-data; boundary=f"},
            timeout=120,
        )
        assert answer.status_code == 202, answer.text
        assert answer.json()["model"]["bytes"] > size
        assert peak - before < 64 * MB


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_while_clients_stream_and_wait(
    settings: Settings, end: signal.Signals
) -> None:
    with process(settings) as (started, url), httpx.Client(base_url=url, timeout=30) as client:
        fields = {"density": "0.5", "dataset": "digits"}
        job_id = client.post("/jobs", files={"model": ("m.onnx", small_onnx())}, data=fields).json()["id"]
        live = {"Accept": "text/event-stream"}
        with client.stream("GET", f"/jobs/{job_id}/events", headers=live) as response:
            lines = response.iter_lines()
            next(lines)
            began = time.monotonic()
            started.send_signal(end)
            assert list(lines)
            assert started.wait(10) in (0, -end)
            assert time.monotonic() - began < 5
