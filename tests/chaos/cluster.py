"""A small Prunery made to be broken: a store, workers and jobs of its own, and what has become of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import psutil

from jobs.artifacts import ArtifactStore, input_key, key_of
from jobs.doorbell import Doorbell
from jobs.record import ENDED, Job, Status
from jobs.settings import Settings
from jobs.store import JobStore
from prunery.valkey import PrivateServer, start_server
from tests.processes import program_of
from tests.stores import a_job
from tests.switch import Switch
from tests.worker.children import write_child, write_fetcher

STEPS = 10
CHILD = "keeps_a_journal"


@dataclass
class Verdict:
    """What came of the jobs: the line of a fault in the table."""

    jobs: int
    lost: list[str] = field(default_factory=list)  # accepted, and not succeeded
    doubled: list[str] = field(default_factory=list)  # worked on by two at a time, or ended twice
    wrong: list[str] = field(default_factory=list)  # with another result than an undisturbed one
    strays: list[str] = field(default_factory=list)  # processes, files and keys that are left
    attempts: int = 0
    resumed: int = 0  # jobs that went on from a checkpoint

    @property
    def good(self) -> bool:
        """Whether everything is as if nothing had happened."""
        return not (self.lost or self.doubled or self.wrong or self.strays)


class Cluster:
    """Processes of its own below `folder`; between the workers and the store is a switch that can cut."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._valkey = folder / ("valkey" * 20)  # too long for a Unix socket: it listens on a port
        self.server = self._start_store()
        self.switch = Switch(self._address())
        dataset = folder / "digits.npz"
        dataset.write_text("data")
        defaults: dict[str, Any] = {
            "redis_url": f"redis://127.0.0.1:{self.switch.port}/0",
            "data_dir": folder / "data",
            "child_command": write_child(folder, CHILD),
            "fetch_command": write_fetcher(folder, f"print(json.dumps({{'path': {str(dataset)!r}}}))"),
            "heartbeat_seconds": 0.5,
            "lease_seconds": 3.0,
            "lease_renew_seconds": 0.5,
            "stop_grace_seconds": 5.0,
            "sandbox": "off",  # the child keeps its journal outside of its folder
        }
        self.settings = Settings(_env_file=None, **(defaults | settings))
        self.store = JobStore(self.settings)
        self.artifacts = ArtifactStore(self.settings)
        self.doorbell = Doorbell(self.settings)
        self.workers: list[subprocess.Popen[bytes]] = []
        self._logs = 0
        (folder / "journal").mkdir(exist_ok=True)

    # The store

    def _start_store(self) -> PrivateServer:
        server = start_server(self._valkey, self.folder / "valkey.log")
        server.wait(30)
        return server

    def _address(self) -> tuple[str, int]:
        assert isinstance(self.server.address, tuple)
        return self.server.address

    def kill_store(self) -> None:
        """kill -9 of the store."""
        self.server.part.process.kill()
        self.server.part.process.wait()
        self.switch.cut()

    def restart_store(self) -> None:
        """Start it from its file."""
        self.server = self._start_store()
        self.switch._target = self._address()
        self.switch.cut()

    # Workers

    def worker(self, **settings: Any) -> subprocess.Popen[bytes]:
        """Start one more worker."""
        environment = {**os.environ, **self.settings.model_copy(update=settings).environment()}
        self._logs += 1
        with (self.folder / f"worker-{self._logs}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker"], env=environment, stdout=log, stderr=log
            )
        self.workers.append(process)
        return process

    def owner_of(self, job: Job) -> subprocess.Popen[bytes] | None:
        """The worker process that has the job."""
        if job.lease is None:
            return None
        pid = int(job.lease.owner.rsplit("-", 2)[1])
        return next((w for w in self.workers if w.pid == pid and w.poll() is None), None)

    def child_of(self, job: Job) -> psutil.Process | None:
        """The child process of a running job; its own name for itself may mean nothing outside of it."""
        if job.lease is None:
            return None
        folder = self.settings.scratch / job.lease.owner / f"{job.id}-{job.attempt}"
        try:
            return psutil.Process(program_of(folder))
        except (ValueError, psutil.Error):  # it has not started yet, or is gone
            return None

    # Jobs

    def accept(self) -> Job:
        """Store a job and its model; nobody is told."""
        job = a_job()
        model = self.folder / "model"
        model.write_bytes(b"a model")
        self.artifacts.put_file(input_key(job.id, "model"), model)
        self.store.create(job)
        return job

    def submit(self, number: int, *, rings: int = 1) -> list[Job]:
        """Accept and ring for jobs."""
        jobs = [self.accept() for _ in range(number)]
        for job in jobs:
            for _ in range(rings):
                self.doorbell.ring(job.id)
        return jobs

    def running(self) -> list[Job]:
        """The jobs whose present child has done some steps, and kept a checkpoint of them."""
        found = []
        for job_id in self.store.ids(Status.RUNNING):
            job = self.store.get(job_id)
            at_work = job.checkpoint is not None and job.checkpoint.attempt == job.attempt
            if at_work and self.child_of(job) is not None:
                found.append(job)
        return found

    def eventually(self, true: Callable[[], Any], seconds: float = 60.0) -> Any:
        """What `true` gives once it is true."""
        until = time.monotonic() + seconds
        while not (found := true()):
            assert time.monotonic() < until, f"it did not happen in time\n{self.logs()}"
            time.sleep(0.05)
        return found

    def wait_for_the_end(self, jobs: list[Job], seconds: float = 180.0) -> None:
        """Return when all have ended, or the time is up."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            counts = self.store.counts()
            if sum(counts[status] for status in ENDED) >= len(jobs):
                return
            time.sleep(0.1)

    def journal(self, job: Job) -> dict[int, list[float]]:
        """When each process that worked on the job did a step of it."""
        path = self.folder / "journal" / job.id
        seen: dict[int, list[float]] = {}
        for line in path.read_text().splitlines() if path.exists() else []:
            pid, at = line.split()
            seen.setdefault(int(pid), []).append(float(at))
        return seen

    def logs(self) -> str:
        """The end of every worker's log."""
        return "\n".join(
            f"{p.name}\n{p.read_text(errors='replace')[-1500:]}" for p in self.folder.glob("*.log")
        )

    # The end

    def verdict(self, jobs: list[Job]) -> Verdict:
        """Wait for the jobs, stop the workers, and look at what is left."""
        self.wait_for_the_end(jobs)
        found = Verdict(len(jobs))
        for job in jobs:
            now = self.store.get(job.id)
            told = [s.event.get("status") for s in self.store.events(job.id) if s.event["type"] == "status"]
            found.attempts += now.attempt
            spans = sorted((times[0], times[-1]) for times in self.journal(job).values())
            overlap = any(later[0] < earlier[1] for earlier, later in pairwise(spans))
            if now.status is not Status.SUCCEEDED:
                found.lost.append(f"{job.id} is {now.status}: {now.error}")
                continue
            if overlap or told.count("succeeded") != 1:
                found.doubled.append(job.id)
            found.wrong += self._wrong(now, found)
        self.stop_workers()
        found.strays = [*self._processes(), *self._files(jobs), *self._keys()]
        return found

    def _wrong(self, job: Job, verdict: Verdict) -> list[str]:
        assert job.result is not None
        report = next(file for file in job.result.artifacts if file.name == "report.json")
        got = self.folder / "got"
        self.artifacts.fetch_file(key_of(job.id, report), got)
        steps = json.loads(got.read_text())
        verdict.resumed += len(set(steps)) > 1
        return [] if len(steps) == STEPS and job.result.density == job.spec.density else [job.id]

    def _processes(self) -> list[str]:
        """Processes that still know of the cluster's folder."""
        left = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = " ".join(process.cmdline())
                if str(self.folder) in words and "valkey-server" not in words and process.pid != os.getpid():
                    left.append(f"process {process.pid}: {words[:100]}")
        return left

    def _files(self, jobs: list[Job]) -> list[str]:
        named = set()
        for job in jobs:
            now = self.store.get(job.id)
            named |= {input_key(job.id, "model")}
            named |= {input_key(job.id, "data")} if now.dataset.source == "supplied" else set()
            named |= {key_of(job.id, file) for file in (now.result.artifacts if now.result else ())}
        here = {key for job in jobs for key in self.artifacts.keys(job.id)}
        scratch = self.settings.scratch
        return [
            *(f"file {key}" for key in sorted(here ^ named)),
            *(f"scratch {path}" for path in (scratch.rglob("*") if scratch.exists() else ())),
        ]

    def _keys(self) -> list[str]:
        prefix = self.settings.redis_prefix
        names = [name.removeprefix(prefix) for name in self.store._redis.keys(f"{prefix}*")]
        gone = ("leases", "owners", "waiting:", "status:")
        return [f"key {n}" for n in names if n.startswith(gone) and n != f"status:{Status.SUCCEEDED.value}"]

    def stop_workers(self) -> None:
        """SIGTERM to every worker; all are out within 20 seconds."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            worker.wait(20)

    def close(self) -> None:
        """Kill all that is left."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
        self.doorbell.close()
        self.store.close()
        self.switch.close()
        self.server.part.process.kill()
        self.server.part.process.wait()


Made = TypeVar("Made", bound=Cluster)


@contextlib.contextmanager
def cluster(
    folder: Path,
    workers: int = 2,
    kind: type[Made] = Cluster,
    **settings: Any,  # type: ignore[assignment]
) -> Iterator[Made]:
    """A cluster with its workers started."""
    made = kind(folder, **settings)
    try:
        for _ in range(workers):
            made.worker()
        made.eventually(lambda: len(made.store.living_workers()) >= workers)
        yield made
    finally:
        made.close()
