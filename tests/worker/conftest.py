from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.artifacts import ArtifactStore, input_key
from jobs.record import Job
from jobs.scratch import Scratch
from jobs.settings import Settings
from jobs.store import JobStore
from prune_engine.spec import PruneSpec
from tests.stores import a_job
from tests.worker.children import write_child, write_fetcher
from worker.supervisor import Supervisor

MODEL = b"a model"


class Bench:
    """A supervisor in this process with a chosen child, and what it works with."""

    def __init__(self, settings: Settings, store: JobStore, folder: Path) -> None:
        self.folder = folder
        self.store = store
        self.stop = threading.Event()
        dataset = folder / "digits.npz"
        dataset.write_text("data")
        fetcher = write_fetcher(folder, f"print(json.dumps({{'path': {str(dataset)!r}}}))")
        self.settings = settings.model_copy(update={"fetch_command": fetcher, "stop_grace_seconds": 1.0})
        self.artifacts = ArtifactStore(self.settings)

    def submit(self, spec: PruneSpec | None = None, secret: str | None = None, **fields: object) -> Job:
        job = a_job(spec=spec or PruneSpec(density=0.1), **fields)
        model = self.folder / "model"
        model.write_bytes(MODEL)
        self.artifacts.put_file(input_key(job.id, "model"), model)
        self.store.create(job, secret=secret)
        return job

    def supervisor(self, child: str, **settings: object) -> Supervisor:
        chosen = self.settings.model_copy(
            update={"child_command": write_child(self.folder, child), **settings}
        )
        scratch = Scratch(chosen.scratch, f"worker-{secrets.token_hex(8)}-{child}")
        return Supervisor(chosen, self.store, self.artifacts, scratch, "worker-1", self.stop)

    def run(self, child: str, **settings: object) -> Job:
        job = self.submit()
        self.supervisor(child, **settings).run(job.id)
        return self.store.get(job.id)

    def events(self, job: Job, kind: str) -> list[dict[str, object]]:
        return [s.event for s in self.store.events(job.id) if s.event["type"] == kind]

    def scratch_left(self) -> list[Path]:
        return [p for p in self.settings.scratch.glob("*/*") if p.name != ".lock"]


@pytest.fixture
def bench(settings: Settings, store: JobStore, tmp_path: Path) -> Bench:
    folder = tmp_path / "bench"
    folder.mkdir()
    return Bench(settings, store, folder)


@pytest.fixture
def eventually() -> Callable[..., None]:
    def wait(true: Callable[[], object], seconds: float = 10.0) -> None:
        until = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < until, "it did not happen in time"
            time.sleep(0.02)

    return wait
