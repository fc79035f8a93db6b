"""A real Celery worker, a real Valkey, real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from jobs.doorbell import Doorbell
from jobs.record import Job, Priority, Status
from jobs.settings import Settings
from jobs.store import JobStore
from prune_engine.spec import PruneSpec
from prunery.valkey import start_server
from tests.processes import program_of
from tests.worker.children import write_child
from tests.worker.conftest import Bench

Eventually = Callable[..., None]


class Farm:
    """Starts workers and submits jobs to them."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.doorbell = Doorbell(bench.settings)
        self.started: list[subprocess.Popen[bytes]] = []

    def worker(self, child: str, **settings: object) -> subprocess.Popen[bytes]:
        chosen = self.bench.settings.model_copy(
            update={"child_command": write_child(self.bench.folder, child), **settings}
        )
        environment = {**os.environ, **chosen.environment()}
        with (self.bench.folder / f"worker-{len(self.started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker"], env=environment, stdout=log, stderr=log
            )
        self.started.append(process)
        return process

    def submit(self, *, ring: int = 1, device: str = "auto", priority: Priority = "normal") -> Job:
        job = self.bench.submit(
            PruneSpec.model_validate({"density": 0.1, "device": device}), priority=priority
        )
        for _ in range(ring):
            self.doorbell.ring(job.id, gpu=job.needs_gpu)
        return job

    def wait_for(self, job: Job, *statuses: Status, seconds: float = 20.0) -> Job:
        until = time.monotonic() + seconds
        while (now := self.bench.store.get(job.id)).status not in statuses:
            assert time.monotonic() < until, f"{now.status}\n{self.logs()}"
            time.sleep(0.05)
        return now

    def logs(self) -> str:
        return "\n".join(p.read_text(errors="replace")[-3000:] for p in self.bench.folder.glob("*.log"))

    def child_of(self, job: Job) -> int:
        until = time.monotonic() + 15
        while not self.bench.events(job, "started"):
            assert time.monotonic() < until, self.logs()
            time.sleep(0.05)
        return program_of(self.bench.settings.scratch)


@pytest.fixture
def farm(bench: Bench) -> Iterator[Farm]:
    farm = Farm(bench)
    yield farm
    for process in farm.started:
        process.kill()
        process.wait()
    farm.doorbell.close()


def test_a_worker_runs_job_after_job_and_a_crash_does_not_stop_it(farm: Farm) -> None:
    farm.worker("segfaults", max_attempts=2)
    jobs = [farm.submit() for _ in range(3)]
    errors = [farm.wait_for(job, Status.FAILED).error for job in jobs]
    assert {e.code for e in errors if e} == {"child_crashed"}
    assert len(farm.bench.store.living_workers()) == 1


def test_a_message_that_comes_often_runs_the_job_once(farm: Farm) -> None:
    farm.worker("good")
    farm.worker("good")
    jobs = [farm.submit(ring=3) for _ in range(4)]
    for job in jobs:
        assert farm.wait_for(job, Status.SUCCEEDED).attempt == 1
        assert len(farm.bench.events(job, "started")) == 1


def test_a_job_whose_message_was_lost_is_taken_at_the_start_of_a_worker(farm: Farm) -> None:
    job = farm.submit(ring=0)
    farm.worker("good", heartbeat_seconds=60.0)
    farm.wait_for(job, Status.SUCCEEDED)


def test_a_job_whose_message_was_lost_is_taken_by_an_idle_worker(farm: Farm, eventually: Eventually) -> None:
    farm.worker("good")
    eventually(farm.bench.store.living_workers, 15)
    time.sleep(0.3)
    farm.wait_for(farm.submit(ring=0), Status.SUCCEEDED)


def test_no_message_waits_in_the_hands_of_a_busy_worker(farm: Farm, eventually: Eventually) -> None:
    for _ in range(2):
        farm.worker("hangs", heartbeat_seconds=60.0)
    eventually(lambda: len(farm.bench.store.living_workers()) == 2, 15)
    jobs = [farm.submit() for _ in range(3)]
    eventually(lambda: farm.bench.store.counts()[Status.RUNNING] == 2, 10)
    first = next(job for job in jobs if farm.bench.store.get(job.id).status is Status.RUNNING)
    farm.bench.store.request_cancel(first.id)
    eventually(lambda: farm.bench.store.counts()[Status.QUEUED] == 0, 10)
    assert farm.bench.store.counts()[Status.RUNNING] == 2


def test_jobs_for_a_gpu_go_to_workers_with_one(farm: Farm) -> None:
    farm.worker("good", worker_queues=("prunery.default",))
    for_gpu, for_any = farm.submit(device="cuda"), farm.submit()
    farm.wait_for(for_any, Status.SUCCEEDED)
    time.sleep(1.5)
    assert farm.bench.store.get(for_gpu.id).status is Status.QUEUED
    farm.worker("good", worker_queues=("prunery.gpu",))
    farm.wait_for(for_gpu, Status.SUCCEEDED)


def test_a_worker_told_to_stop_is_out_soon_and_another_goes_on_from_its_checkpoint(farm: Farm) -> None:
    worker = farm.worker("trains_long", stop_grace_seconds=10.0, heartbeat_seconds=60.0)
    job = farm.submit()
    child = farm.child_of(job)
    began = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0, farm.logs()
    assert time.monotonic() - began < 20
    back = farm.bench.store.get(job.id)
    assert (back.status, back.failures, back.lease) == (Status.QUEUED, 0, None)
    assert not psutil.pid_exists(child)
    assert list(farm.bench.settings.scratch.iterdir()) == []
    assert farm.bench.store.living_workers() == []
    farm.worker("trains_long", heartbeat_seconds=60.0)
    done = farm.wait_for(job, Status.SUCCEEDED)
    assert done.attempt == 2
    assert len(farm.bench.events(job, "started")) == 2


def test_a_child_that_does_not_stop_does_not_keep_its_worker(farm: Farm) -> None:
    worker = farm.worker("ignores_sigterm")
    job = farm.submit()
    child = farm.child_of(job)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0, farm.logs()
    assert farm.bench.store.get(job.id).status is Status.QUEUED
    assert not psutil.pid_exists(child)


def test_an_idle_worker_told_to_stop_stops_at_once(farm: Farm, eventually: Eventually) -> None:
    worker = farm.worker("good")
    eventually(farm.bench.store.living_workers, 15)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(5) == 0


def test_a_killed_worker_takes_its_child_along_and_another_goes_on_from_the_checkpoint(
    farm: Farm, eventually: Eventually
) -> None:
    worker = farm.worker("trains_long")
    job = farm.submit()
    child = farm.child_of(job)
    eventually(lambda: farm.bench.store.get(job.id).checkpoint is not None)
    worker.kill()
    worker.wait()
    eventually(lambda: not psutil.pid_exists(child), 2)
    farm.worker("trains_long")
    done = farm.wait_for(job, Status.SUCCEEDED)
    assert (done.attempt, done.failures) == (2, 1)
    told = [e.get("reason") for e in farm.bench.events(job, "status")]
    assert [reason["code"] for reason in told if reason] == ["worker_lost"]  # type: ignore[index]
    # the second worker removed what the first had left
    eventually(lambda: farm.bench.scratch_left() == [], 2)
    farm.wait_for(farm.submit(), Status.SUCCEEDED)


def test_a_stopped_worker_freezes_its_child_and_gives_way_when_it_comes_back(
    farm: Farm, eventually: Eventually
) -> None:
    """A worker that stands still cannot renew its lease: another has the job when it moves again."""
    stopped = farm.worker("trains_long")
    job = farm.submit()
    child = psutil.Process(farm.child_of(job))
    eventually(lambda: farm.bench.store.get(job.id).checkpoint is not None)
    stopped.send_signal(signal.SIGSTOP)
    # before anybody else may take the job, its child stands still too
    eventually(lambda: child.status() == psutil.STATUS_STOPPED, 5)
    assert farm.bench.store.get(job.id).attempt == 1
    farm.worker("trains_long")
    farm.wait_for(job, Status.RUNNING, Status.SUCCEEDED)
    eventually(lambda: farm.bench.store.get(job.id).attempt == 2, 15)
    stopped.send_signal(signal.SIGCONT)
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 5)
    done = farm.wait_for(job, Status.SUCCEEDED)
    assert done.attempt == 2
    assert done.result is not None
    named = {file.key for file in done.result.artifacts}
    stored = farm.bench.artifacts.keys
    eventually(lambda: set(stored(job.id)) == {*named, f"{job.id}/input/model"}, 10)
    # it works on
    assert len(farm.bench.store.living_workers()) == 2


def test_a_child_thaws_when_its_worker_comes_back_before_anybody_else(
    farm: Farm, eventually: Eventually
) -> None:
    worker = farm.worker("trains_long")
    job = farm.submit()
    child = psutil.Process(farm.child_of(job))
    worker.send_signal(signal.SIGSTOP)
    eventually(lambda: child.status() == psutil.STATUS_STOPPED, 5)
    worker.send_signal(signal.SIGCONT)
    assert farm.wait_for(job, Status.SUCCEEDED).attempt == 1


def test_an_urgent_job_is_taken_before_those_that_came_earlier(farm: Farm, eventually: Eventually) -> None:
    farm.worker("hangs")
    busy = farm.submit()
    farm.wait_for(busy, Status.RUNNING)
    order = ["low", "normal", "high", "low", "high", "normal"]
    jobs = [farm.submit(priority=priority) for priority in order]
    expected = [jobs[n] for n in (2, 4, 1, 5, 0, 3)]
    positions = {job.id: farm.bench.store.queue_position(job.id) for job in jobs}
    assert [positions[job.id] for job in expected] == list(range(6))
    for current, after in pairwise([busy, *expected]):
        farm.bench.store.request_cancel(current.id)
        farm.wait_for(after, Status.RUNNING)


def test_lost_messages_keep_no_job_from_its_turn(farm: Farm, eventually: Eventually) -> None:
    """The queue was emptied: an idle worker rings, and whoever has done a job rings for the next."""
    jobs = [farm.submit(ring=0) for _ in range(30)]
    farm.worker("good")
    for job in jobs:
        farm.wait_for(job, Status.SUCCEEDED, seconds=60)


def test_a_restart_of_the_store_during_a_run_does_not_fail_the_job(
    bench: Bench, tmp_path: Path, settings: Settings
) -> None:
    folder = tmp_path / "own"
    server = start_server(folder)
    server.wait(10)
    own = settings.model_copy(update={"redis_url": server.url})
    farm = Farm(Bench(own, JobStore(own), tmp_path))
    try:
        farm.worker("slow")
        job = farm.submit()
        farm.child_of(job)
        server.stop()
        time.sleep(2)
        server = start_server(folder)
        server.wait(10)
        ended = farm.wait_for(job, Status.SUCCEEDED)
        assert ended.attempt == 1
        assert len(farm.bench.events(job, "started")) == 1
        farm.wait_for(farm.submit(), Status.SUCCEEDED, seconds=30)
    finally:
        for process in farm.started:
            process.kill()
            process.wait()
        server.stop()


def test_a_worker_without_a_store_says_what_to_set(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if "REDIS" not in k}
    told = subprocess.run(
        [sys.executable, "-m", "worker"],
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2
    assert "REDIS_URL" in told.stderr
    assert "Traceback" not in told.stderr
