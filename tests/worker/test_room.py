"""A worker takes no job that its disk has no room for; the job waits and its events say why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jobs.artifacts import input_key
from jobs.record import ModelFile, Status
from jobs.settings import Settings
from jobs.store import JobStore
from tests.disks import fill
from tests.stores import a_job
from tests.worker.conftest import Bench
from tests.worker.test_process import Farm, farm  # noqa: F401
from worker.room import Room, needed

Eventually = Callable[..., None]
MB = 1024 * 1024


def model(size: int) -> ModelFile:
    return ModelFile(filename="net.onnx", format="onnx", bytes=size, sha256="00" * 32)


def warnings(store: JobStore, job_id: str) -> list[str]:
    return [str(s.event["message"]) for s in store.events(job_id) if s.event["type"] == "warning"]


def test_a_job_needs_room_for_its_model_several_times() -> None:
    assert needed(a_job(model=model(10 * MB))) == 60 * MB


def test_a_job_without_room_is_left_and_told_once(
    store: JobStore, settings: Settings, small_disk: Path
) -> None:
    cramped = settings.model_copy(update={"scratch_dir": small_disk, "min_free_bytes": 8 * MB})
    room = Room(cramped, store, "worker-1")
    small, large = a_job(), a_job(model=model(10 * MB))
    store.create(small)
    store.create(large)
    assert not room.lacks(small.id)
    for _ in range(3):
        assert room.lacks(large.id)
    assert warnings(store, small.id) == []
    (said,) = warnings(store, large.id)
    assert "worker-1" in said
    assert "62.9 MB" in said
    assert store.get(large.id).status is Status.QUEUED
    assert store.waiting(False, 10) == [small.id, large.id]
    assert not Room(settings.model_copy(update={"min_free_bytes": 0}), store, "w").lacks(large.id)


def test_a_job_that_is_gone_lacks_nothing(store: JobStore, settings: Settings) -> None:
    assert not Room(settings, store, "worker-1").lacks("job_gone")


def test_what_no_longer_waits_is_told_nothing(store: JobStore) -> None:
    job = a_job()
    store.create(job)
    store.request_cancel(job.id)
    store.note(job.id, {"type": "warning", "message": "late", "time": 0.0})
    assert warnings(store, job.id) == []


def test_a_job_that_fills_the_disk_is_put_back_and_says_so(bench: Bench, small_disk: Path) -> None:
    """Its record said less than there was, so nobody could know before."""
    job = bench.submit()
    large = bench.folder / "large"
    large.write_bytes(b"1" * (30 * MB))
    bench.artifacts.put_file(input_key(job.id, "model"), large)
    bench.supervisor("good", scratch_dir=small_disk).run(job.id)
    now = bench.store.get(job.id)
    assert (now.status, now.attempt, now.error) == (Status.QUEUED, 1, None)
    (reason,) = [event["reason"] for event in bench.events(job, "status") if "reason" in event]
    assert reason["code"] == "disk_full"  # type: ignore[index]
    assert [path for path in small_disk.rglob("*") if path.is_file() and path.name != ".lock"] == []


def test_a_worker_passes_over_a_large_job_and_takes_it_when_there_is_room(
    farm: Farm,  # noqa: F811
    small_disk: Path,
    eventually: Eventually,
) -> None:
    ballast = fill(small_disk, 12 * MB)
    large = farm.bench.submit(model=model(2 * MB))
    small = farm.bench.submit()
    farm.doorbell.ring(large.id)
    farm.worker("good", scratch_dir=small_disk, min_free_bytes=8 * MB)
    farm.wait_for(small, Status.SUCCEEDED, seconds=40)
    eventually(lambda: warnings(farm.bench.store, large.id), 20)
    assert farm.bench.store.get(large.id).status is Status.QUEUED
    assert farm.bench.store.get(large.id).attempt == 0
    ballast.unlink()
    assert farm.wait_for(large, Status.SUCCEEDED, seconds=40).attempt == 1
