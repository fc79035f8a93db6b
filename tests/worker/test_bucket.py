"""A worker whose files are in a bucket that goes away: the job waits and succeeds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.artifacts import output_key
from jobs.record import Status
from jobs.settings import Settings
from jobs.store import JobStore
from tests.object_stores import S3
from tests.worker.conftest import MODEL, Bench


@pytest.fixture
def bench(s3_settings: Settings, store: JobStore, tmp_path: Path) -> Bench:
    folder = tmp_path / "bench"
    folder.mkdir()
    return Bench(s3_settings, store, folder)


def test_a_job_waits_for_its_inputs_and_to_leave_its_outputs(
    bench: Bench, s3: S3, eventually: Callable[..., None]
) -> None:
    job = bench.submit()
    s3.switch.leave()
    thread = threading.Thread(target=bench.supervisor("slow").run, args=(job.id,))
    thread.start()
    eventually(lambda: s3.switch.refused > 3)
    assert bench.store.get(job.id).status is Status.RUNNING
    s3.switch.come_back()
    eventually(lambda: bench.events(job, "progress"), 60)
    refused = s3.switch.refused
    s3.switch.leave()
    eventually(lambda: s3.switch.refused > refused + 8, 60)
    s3.switch.come_back()
    thread.join(60)
    assert bench.store.get(job.id).status is Status.SUCCEEDED
    bench.artifacts.fetch_file(output_key(job.id, 1, "model.onnx"), bench.folder / "got")
    assert (bench.folder / "got").read_bytes() == MODEL + b" pruned"


def test_a_cancel_is_heard_while_the_bucket_is_away(
    bench: Bench, s3: S3, eventually: Callable[..., None]
) -> None:
    job = bench.submit()
    with s3.switch.away():
        thread = threading.Thread(target=bench.supervisor("good").run, args=(job.id,))
        thread.start()
        eventually(lambda: s3.switch.refused)
        bench.store.request_cancel(job.id)
        thread.join(30)
        assert bench.store.get(job.id).status is Status.CANCELLED
