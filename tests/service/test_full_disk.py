"""A disk that fills up refuses new uploads; what is there is served, and what runs has the reserve."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from jobs.artifacts import ArtifactStore
from jobs.settings import Settings
from jobs.store import JobStore
from tests.disks import fill
from tests.service.conftest import Api, running
from tests.service.samples import assert_problem, small_onnx

MB = 1024 * 1024
RESERVE = 8 * MB


@pytest.fixture
def cramped(settings: Settings, small_disk: Path) -> Iterator[Api]:
    chosen = {"artifacts_url": (small_disk / "artifacts").as_uri(), "min_free_bytes": RESERVE}
    with running(settings.model_copy(update=chosen)) as api:
        yield api


def free(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / "artifacts").rglob("*") if path.is_file()]


def test_an_upload_is_refused_by_its_length_before_it_comes(cramped: Api, small_disk: Path) -> None:
    answer = cramped.submit(small_onnx() + b"\0" * (30 * MB))
    assert "kept for jobs that run" in assert_problem(answer, 507, "disk_nearly_full", None)
    assert files(small_disk) == []


def test_an_upload_of_unknown_length_is_refused_before_it_takes_the_reserve(
    cramped: Api, small_disk: Path
) -> None:
    head = (
        b'--b\r\nContent-Disposition: form-data; name="dataset"; filename="d.npz"\r\n\r\nPK\x03\x04'
        + b"\0" * 26
    )
    lowest = free(small_disk)

    def body() -> Iterator[bytes]:
        nonlocal lowest
        yield head
        for _ in range(400):
            lowest = min(lowest, free(small_disk))
            yield b"\0" * 65_536

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    try:
        answer = cramped.client.post("/jobs", content=body(), headers=headers)
        assert_problem(answer, 507, "disk_nearly_full", None)
    except (httpx.WriteError, httpx.RemoteProtocolError):
        pass  # the server had answered and hung up while this client was still sending
    assert lowest >= RESERVE - 2 * MB
    assert files(small_disk) == []


def test_what_fits_is_taken_until_the_reserve_is_reached(cramped: Api, small_disk: Path) -> None:
    assert cramped.submit().status_code == 202
    ballast = fill(small_disk, RESERVE - MB)
    assert_problem(cramped.submit(), 507, "disk_nearly_full", None)
    job_id = cramped.client.get("/jobs").json()["data"][0]["id"]
    assert cramped.client.get(f"/jobs/{job_id}").status_code == 200
    ballast.unlink()
    assert cramped.submit().status_code == 202


def test_a_worker_may_still_store_what_came_of_a_job(cramped: Api, small_disk: Path, tmp_path: Path) -> None:
    fill(small_disk, RESERVE - MB)
    output = tmp_path / "model.onnx"
    output.write_bytes(b"1" * (2 * MB))
    stored = ArtifactStore(cramped.settings).put_file("job_1/output/model.onnx", output)
    assert stored.bytes == 2 * MB


def test_readiness_and_metrics_tell_of_it(cramped: Api, store: JobStore, small_disk: Path) -> None:
    store.beat("worker-1", 60)
    answer = cramped.client.get("/readyz")
    assert answer.status_code == 200
    assert "free" in answer.json()["parts"]["disk"]["detail"]
    fill(small_disk, RESERVE - MB)
    answer = cramped.client.get("/readyz")
    assert answer.status_code == 503
    assert {name for name, part in answer.json()["parts"].items() if not part["ready"]} == {"disk"}
    lines = cramped.client.get("/metrics").text.splitlines()
    (line,) = [line for line in lines if line.startswith('prunery_disk_free_bytes{folder="artifacts"}')]
    assert float(line.split()[-1]) < RESERVE
    (line,) = [line for line in lines if line.startswith("prunery_disk_reserve_bytes")]
    assert float(line.split()[-1]) == RESERVE


def test_looking_through_a_model_needs_room_too(settings: Settings, small_disk: Path) -> None:
    chosen = {"scratch_dir": small_disk / "scratch", "min_free_bytes": RESERVE}
    with running(settings.model_copy(update=chosen)) as api:
        fill(small_disk, RESERVE - MB)
        answer = api.client.post("/models/inspect", files={"model": ("net.onnx", small_onnx())})
        assert_problem(answer, 507, "disk_nearly_full", None)
