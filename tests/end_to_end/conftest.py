"""A whole service, as `prunery up` starts it, and models to send to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from prune_engine.catalogue import fetch
from tests.conftest import ROOT
from tests.trained import digits_net, export, tutorial_arrays, tutorial_net


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    path = fetch("digits", datasets_dir=None, cache_dir=tmp_path_factory.mktemp("cache"))
    with np.load(path) as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def digits_onnx(digits: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained digits net as ONNX: 6,464 prunable weights."""
    path = tmp_path_factory.mktemp("models") / "digits.onnx"
    export(digits_net(digits), torch.zeros(1, 1, 8, 8), path)
    return path


@pytest.fixture(scope="session")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The paper's tutorial task: a trained dense net as ONNX, and its data."""
    folder = tmp_path_factory.mktemp("tutorial")
    arrays = tutorial_arrays()
    np.savez(folder / "tutorial.npz", **arrays)
    export(tutorial_net(arrays), torch.zeros(1, 4), folder / "tutorial.onnx")
    return folder / "tutorial.onnx", folder / "tutorial.npz"


class Service:
    """A running service and what a person does with it."""

    def __init__(self, url: str, data_dir: Path) -> None:
        self.url = url
        self.data_dir = data_dir
        self.client = httpx.Client(base_url=url, timeout=90.0)

    def submit(
        self, model: Path | bytes, dataset: str | Path | bytes, *, validate_only: bool = False, **fields: Any
    ) -> httpx.Response:
        """POST /jobs; a path or bytes is a file, a string a name."""
        files = {"model": _part(model, "model.onnx")}
        if isinstance(dataset, str):
            fields["dataset"] = dataset
        else:
            files["dataset"] = _part(dataset, "data.npz")
        return self.client.post(
            "/jobs",
            params={"validate_only": True} if validate_only else {},
            data={name: str(value) for name, value in fields.items()},
            files=files,
        )

    def wait(self, job_id: str, seconds: float = 240.0) -> dict[str, Any]:
        """Poll as a script would until the job has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            job = self.client.get(f"/jobs/{job_id}", params={"wait": 30}).raise_for_status().json()
            if job["status"] in ("succeeded", "failed", "cancelled"):
                return job
        raise AssertionError(f"{job_id} did not end within {seconds} s: {job}")

    def run(self, model: Path | bytes, dataset: str | Path | bytes, **fields: Any) -> dict[str, Any]:
        """Submit and wait."""
        answer = self.submit(model, dataset, **fields)
        assert answer.status_code == 202, answer.text
        return self.wait(answer.json()["id"])

    def report(self, job: dict[str, Any]) -> dict[str, Any]:
        """The report as JSON."""
        return self.client.get(f"/jobs/{job['id']}/report").raise_for_status().json()

    def model(self, job: dict[str, Any]) -> bytes:
        """The pruned ONNX."""
        return self.client.get(f"/jobs/{job['id']}/model").raise_for_status().content


def _part(content: Path | bytes, name: str) -> tuple[str, bytes]:
    return (content.name, content.read_bytes()) if isinstance(content, Path) else (name, content)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    data_dir = tmp_path_factory.mktemp("prunery")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (data_dir / "up.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "prunery", "up", "--port", str(port), "--data-dir", str(data_dir)],
        stdout=log,
        stderr=log,
        env={**os.environ, "DATASETS_DIR": str(ROOT / ".cache" / "datasets")},
    )
    running = Service(f"http://127.0.0.1:{port}", data_dir)
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, (data_dir / "up.log").read_text()
        assert time.monotonic() < deadline, "prunery up was not ready within 30 s"
        try:
            if running.client.get("/readyz").status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.1)
    yield running
    process.terminate()
    assert process.wait(timeout=30) == 0
