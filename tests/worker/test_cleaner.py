"""Cleaning with a real store and real files, in a folder and in a bucket."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from jobs.artifacts import ArtifactStore, checkpoint_key, input_key, output_key
from jobs.listing import OWNER
from jobs.record import Artifact, Job, JobError, JobResult, Status, now
from jobs.scratch import Scratch
from jobs.settings import Settings
from jobs.store import JobStore
from tests.stores import a_job
from tests.worker.test_process import Farm, farm  # noqa: F401
from worker.cleaner import Cleaner

Eventually = Callable[..., None]
DAY = timedelta(days=1)


@dataclass
class House:
    """What is cleaned, with the means to fill it."""

    settings: Settings
    store: JobStore
    artifacts: ArtifactStore
    cleaner: Cleaner
    source: Path

    def put(self, key: str) -> str:
        self.source.write_bytes(b"123")
        self.artifacts.put_file(key, self.source)
        return key

    def files(self) -> set[str]:
        return {file.key for batch in self.cleaner._listing.batches() for file in batch} - {OWNER}

    def job(self, end: str | None) -> Job:
        """A job with a model, that has an output when it has succeeded; None: it runs."""
        job = a_job()
        self.put(input_key(job.id, "model"))
        self.store.create(job)
        self.store.start(job.id, "worker-1")
        if end == "succeeded":
            key = self.put(output_key(job.id, 1, "model.onnx"))
            artifact = Artifact(name="model.onnx", bytes=3, sha256="00", key=key)
            return self.store.succeed(job.id, JobResult(density=0.1, metrics={}, artifacts=[artifact]))
        if end == "failed":
            return self.store.fail(job.id, JobError(code="engine_failed", message="it failed"))
        return self.store.get(job.id)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    if request.param == "folder":
        return settings
    bucket: Settings = request.getfixturevalue("s3_settings")
    return bucket


def open_house(settings: Settings, store: JobStore, source: Path, **fields: object) -> House:
    chosen = settings.model_copy(update={"keep_days": 7.0, "keep_failed_days": 1.0, **fields})
    artifacts = ArtifactStore(chosen)
    return House(chosen, store, artifacts, Cleaner(chosen, artifacts, "worker-1"), source)


@pytest.fixture
def house(place: Settings, store: JobStore, tmp_path: Path) -> Iterator[House]:
    opened = open_house(place, store, tmp_path / "source")
    yield opened
    opened.cleaner.stop()


def later(days: float) -> datetime:
    return now() + days * DAY


def test_expired_jobs_go_with_their_files_and_others_stay(house: House) -> None:
    done, failed, runs = (house.job(end) for end in ("succeeded", "failed", None))
    assert not house.cleaner.clean(later(0.5))
    cleaned = house.cleaner.clean(later(2))
    assert (cleaned.jobs, cleaned.files) == (1, 1)
    assert house.store.page(10)[0] == [house.store.get(runs.id), house.store.get(done.id)]
    assert house.files() == {
        input_key(done.id, "model"),
        output_key(done.id, 1, "model.onnx"),
        input_key(runs.id, "model"),
    }
    cleaned = house.cleaner.clean(later(8))
    assert (cleaned.jobs, cleaned.files, cleaned.bytes) == (1, 2, done.stored_bytes)
    assert house.files() == {input_key(runs.id, "model")}
    assert list(house.store._redis.scan_iter(f"{house.settings.redis_prefix}*{failed.id}*")) == []
    assert house.store._redis.hget(house.store._layout.counters, "cleaned:jobs") == "2"


def test_files_that_no_record_points_to_go_once_they_are_old(house: House) -> None:
    done, runs = house.job("succeeded"), house.job(None)
    kept = house.files()
    orphan = a_job()
    half = house.put(input_key(orphan.id, "model"))
    lost = house.put(output_key(done.id, 7, "model.onnx"))
    house.put(checkpoint_key(done.id, 1, 1, "checkpoint.json"))
    busy = house.put(checkpoint_key(runs.id, 1, 1, "checkpoint.json"))
    foreign = house.put("somebody-elses/file")
    assert not house.cleaner.clean(later(0.9))
    assert half in house.files()
    assert house.cleaner.clean(later(1.1)).files == 3
    assert house.files() == kept | {busy, foreign}
    assert lost not in house.files()
    assert house.artifacts.keys(orphan.id) == []


def test_a_job_that_is_tried_once_more_does_not_expire(house: House) -> None:
    job = house.job("failed")
    house.store.retry(job.id)
    assert not house.cleaner.clean(later(30))
    assert house.store.get(job.id).status is Status.QUEUED
    assert house.files() == {input_key(job.id, "model")}


def test_files_of_another_store_are_never_strays(
    house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two services with one bucket by mistake, or a store that lost its data."""
    done = house.job("succeeded")
    house.cleaner.clean(now())
    kept = house.files()
    house.store._redis.delete(*house.store._redis.scan_iter(f"{house.settings.redis_prefix}*"))
    caplog.set_level(logging.ERROR)
    assert not house.cleaner.clean(later(400))
    assert house.files() == kept
    assert done.id in next(iter(kept))
    assert "belong to another job store" in caplog.text
    assert house.store._redis.hget(house.store._layout.counters, "cleaned:refused") == "1"
    house.artifacts.delete_files([OWNER])  # as the log says, when it is meant
    assert house.cleaner.clean(later(400)).files == 2


def test_unfinished_uploads_to_a_folder_go_once_they_are_old(
    settings: Settings, store: JobStore, tmp_path: Path
) -> None:
    house = open_house(settings, store, tmp_path / "source")
    folder = settings.data_dir / "artifacts"
    old, fresh = folder / "job_1" / "input" / "model#1", folder / "job_2" / "input" / "model#1"
    for path in (old, fresh):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
    long_ago = time.time() - 30 * 3600
    for path in (old, old.parent, old.parent.parent):
        os.utime(path, (long_ago, long_ago))
    assert house.cleaner.clean(now()).files == 1
    assert not old.exists()
    assert fresh.exists()
    house.cleaner.stop()


def test_keys_of_jobs_that_have_no_record_go(house: House) -> None:
    there, gone = house.job(None), house.job("succeeded")
    layout, redis = house.store._layout, house.store._redis
    redis.delete(layout.record(gone.id))
    redis.hset(layout.webhook(gone.id), "secret", "x")
    assert house.cleaner.clean(now()).keys >= 4
    left = set(redis.scan_iter(f"{house.settings.redis_prefix}*{gone.id}*"))
    assert left == set()
    assert redis.zrange(layout.jobs, 0, -1) == [there.id]
    assert redis.zrange(layout.status(Status.SUCCEEDED), 0, -1) == []
    assert len(house.store.events(there.id)) == 2
    assert not house.cleaner.clean(now())


def test_cleaning_while_jobs_come_and_go_takes_nothing_of_the_living(
    settings: Settings, store: JobStore, tmp_path: Path
) -> None:
    house = open_house(settings, store, tmp_path / "source", keep_failed_days=0.001 / 86_400)
    stop = threading.Event()
    rounds = []

    def clean() -> None:
        while not stop.is_set():
            rounds.append(house.cleaner.clean(now()))

    thread = threading.Thread(target=clean)
    thread.start()
    try:
        jobs = [house.job(end) for _ in range(10) for end in ("succeeded", "failed", None)]
    finally:
        stop.set()
        thread.join()
    rounds.append(house.cleaner.clean(now()))
    house.cleaner.stop()
    assert sum(done.jobs for done in rounds) == 10
    for job in jobs:
        if job.status is Status.FAILED:
            assert house.artifacts.keys(job.id) == []
        else:
            assert house.store.get(job.id) == job
            assert house.artifacts.keys(f"{job.id}/input") == [input_key(job.id, "model")]


def test_it_is_one_worker_s_turn(settings: Settings, store: JobStore, tmp_path: Path) -> None:
    first, second = (open_house(settings, store, tmp_path / "source") for _ in range(2))
    turns = [house.cleaner._housekeeping.take_turn("worker", 0.5) for house in (first, second, first)]
    assert turns == [True, False, False]
    time.sleep(0.6)
    assert second.cleaner._housekeeping.take_turn("worker", 60)
    first.cleaner.stop()
    second.cleaner.stop()


def test_scratch_folders_of_the_gone_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    living = Scratch(tmp_path, "living")
    gone = Scratch(tmp_path, "gone")
    gone._lock.close()  # type: ignore[union-attr]
    Scratch.remove_abandoned(tmp_path, 600)
    assert (tmp_path / "gone").exists()
    long_ago = time.time() - 700
    for name in ("gone", "living"):
        os.utime(tmp_path / name, (long_ago, long_ago))
    Scratch.remove_abandoned(tmp_path, 600)
    assert [path.name for path in tmp_path.iterdir()] == ["living"]
    living.close()


def test_a_worker_cleans_by_itself(farm: Farm, eventually: Eventually) -> None:  # noqa: F811
    farm.worker("good", keep_days=0.5 / 86_400, clean_seconds=1.0)
    job = farm.submit()
    eventually(lambda: not farm.bench.store.page(10)[0] and farm.bench.store.totals().get("succeeded"), 40)
    eventually(lambda: farm.bench.artifacts.keys(job.id) == [], 10)
