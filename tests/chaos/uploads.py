"""The API killed while clients upload: what was accepted is there, and what is sent again is one job."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx
import numpy as np

from jobs.settings import Settings
from tests.object_stores import free_ports
from tests.service.samples import npz, small_onnx


@dataclass
class Api:
    """An API process on a port of its own, which can be killed and started again."""

    settings: Settings
    log: Path

    def __post_init__(self) -> None:
        [self._port] = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Start it; clients find out by themselves."""
        environment = {**os.environ, **self.settings.model_copy(update={"port": self._port}).environment()}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service.server"], env=environment, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def upload(url: str, seconds: float = 150.0) -> str:
    """Submit a job slowly, again and again until it is accepted, always with the same key; its id."""
    form = httpx.Request(
        "POST",
        f"{url}/jobs",
        data={"density": "0.1"},
        files={"model": ("net.onnx", small_onnx()), "dataset": ("d.npz", _data())},
        headers={"Idempotency-Key": secrets.token_hex(8)},
    )
    body = form.read()
    until = time.monotonic() + seconds
    while True:
        try:
            answer = httpx.post(form.url, content=_slowly(body), headers=form.headers, timeout=30)
            if answer.status_code == 202:
                job_id: str = answer.json()["id"]
                return job_id
            assert answer.status_code in (409, 503), answer.text
        except httpx.TransportError:
            pass
        assert time.monotonic() < until, "it was never accepted"
        time.sleep(0.2)


def _slowly(body: bytes, parts: int = 10) -> Iterator[bytes]:
    size = len(body) // parts + 1
    for start in range(0, len(body), size):
        time.sleep(0.05)
        yield body[start : start + size]


@cache
def _data() -> bytes:
    return npz(x_train=np.zeros((2000, 64), np.float32), y_train=np.zeros(2000, np.int64))


def uploads_while_the_api_is_killed(api: Api, number: int, times: int) -> list[str]:
    """Upload from eight clients at once, killing the API meanwhile; the ids that were accepted."""
    with ThreadPoolExecutor(8) as pool:
        sending = [pool.submit(upload, api.url) for _ in range(number)]
        for _ in range(times):
            time.sleep(1.5)
            api.kill()
            time.sleep(0.3)
            api.start()
        return [each.result(180) for each in sending]
