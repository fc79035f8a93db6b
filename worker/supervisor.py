"""One job from its message to its end: take it, feed a child, listen to it, and write down what came of it.

The record is the truth. Whoever has moved it to `running` has the job, as long as the lease is renewed; every
later write carries the attempt's number, so a run that was given up cannot write into another's. A run need
not end its job: one that is stopped, or whose child or disk fails, gives it back, and the next one goes on
from the last checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from jobs import logs, tracing
from jobs.artifacts import ArtifactStore
from jobs.child_environment import child_environment
from jobs.disk import space_of
from jobs.errors import (
    ArtifactsUnavailableError,
    HubDatasetsOffError,
    InvalidTransitionError,
    JobNotFoundError,
    NotStartableError,
    StoreUnavailableError,
)
from jobs.figures import MEMORY_BOUNDS, observed
from jobs.process import ended
from jobs.record import Job, JobError, JobResult, Status
from jobs.scratch import Scratch
from jobs.settings import Settings
from jobs.store import JobStore
from prune_engine import catalogue
from prune_engine.errors import DatasetUnavailableError, PruneError, told
from prune_engine.events import (
    CheckpointEvent,
    DoneEvent,
    ErrorEvent,
    StageEvent,
    StoppedEvent,
    WarningEvent,
    parse_event,
)
from worker import inputs, leftovers, reasons
from worker import run as attempt
from worker.checkpoints import Checkpoints
from worker.child import Child
from worker.lease import Lease
from worker.outputs import check_outputs, upload
from worker.run import CancelledError, LostError, Run, SilentError, StoppedError
from worker.stages import Stages

log = logging.getLogger(__name__)
_LONGEST_MESSAGE = 4000
_REST = 5.0  # seconds, times the failures in a row
_LONGEST_REST = 60.0
_NO_ROOM = 2**20  # bytes that are as good as none
_BOTH_TOLD = 1.0  # seconds: who stops a whole group of processes tells child and worker, in any order
T = TypeVar("T")
Ending = Callable[[], Job]


class Supervisor:
    """Runs one job at a time. `stop` set: the job that runs goes back into the queue, soon."""

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        artifacts: ArtifactStore,
        scratch: Scratch,
        worker_id: str,
        stop: threading.Event,
    ) -> None:
        self._settings = settings
        self._store = store
        self._artifacts = artifacts
        self._scratch = scratch
        self._worker_id = worker_id
        self._stop = stop
        self._unwell = 0  # runs in a row that this machine failed
        self.busy = False

    def run(self, job_id: str) -> bool:
        """Run a queued job until it has ended or has been given back, and that is written down.

        Returns:
            Whether there was something to do: the job was queued and nobody else took it.
        """
        self.busy = True
        try:
            return self._run(job_id)
        finally:
            self.busy = False

    def _run(self, job_id: str) -> bool:
        asked = time.monotonic()
        try:
            job = self._store.start(job_id, self._worker_id, self._settings.lease_seconds)
        except (JobNotFoundError, NotStartableError) as error:
            log.info("%s: nothing to do, %s", job_id, error)
            return False
        with logs.about(job), tracing.span("run", job.traceparent, job_id=job.id, attempt=job.attempt):
            self._do(job, asked)
        return True

    def _do(self, job: Job, asked: float) -> None:
        log.info("%s: attempt %d begins", job.id, job.attempt)
        lease = Lease(self._settings, self._store, job, asked)
        try:
            after = self._patiently(self._hold(job, lease))
        except (LostError, InvalidTransitionError, JobNotFoundError) as error:
            log.warning("%s: given up, %s", job.id, error)
            leftovers.discard(job, self._store, self._artifacts)
            return
        finally:
            lease.close()
        log.info("%s: %s", job.id, after.status)
        if after.status is Status.SUCCEEDED:
            leftovers.tidy(after, self._artifacts)

    def rest(self) -> None:
        """Take no job for a while if this machine failed the last one: another worker may do better."""
        self.busy = True
        self._stop.wait(min(_LONGEST_REST, _REST * self._unwell))
        self.busy = False

    def _hold(self, job: Job, lease: Lease) -> Ending:
        """Do the job in a folder of its own; the write that ends the run, once the folder is gone."""
        name = f"{job.id}-{job.attempt}"
        try:
            with self._scratch.folder(f"{name}-kept") as aside, self._scratch.folder(name) as folder:
                checkpoints = Checkpoints(self._store, self._artifacts, job, aside)
                run = Run(self._settings, self._store, job, folder, lease, checkpoints, self._stop)
                try:
                    ending = self._work(run)
                finally:
                    checkpoints.close()
        except OSError as error:
            log.exception("%s: the worker failed", job.id)
            self._unwell += 1
            return partial(
                self._store.give_back,
                job.id,
                reasons.failed(error),
                most_failures=self._settings.max_attempts,
                attempt=job.attempt,
            )
        return ending

    def _work(self, run: Run) -> Ending:
        """Do the job; return the write that ends the run."""
        job = run.job
        try:
            run.patiently(
                lambda: inputs.write_inputs(job, run.folder, self._artifacts, self._settings, run.tend)
            )
            if job.dataset.source == "named":
                self._fetch_dataset(run)
            self._fetch_checkpoint(run)
            return self._run_child(run)
        except CancelledError:
            return partial(self._store.cancelled, job.id, events=run.relay.rest(), attempt=job.attempt)
        except StoppedError as stopped:
            run.settle()
            return self._given_back(run, stopped.why)
        except SilentError:
            run.settle()
            why = reasons.silent(self._settings.silence_seconds)
            return self._given_back(run, why, self._settings.max_attempts)
        except ArtifactsUnavailableError as error:
            why = JobError(code=error.code, message=error.message)
            return self._given_back(run, why, self._settings.max_attempts)
        except PruneError as error:
            return self._failed(run, error.code, error.message, error.param)

    def _failed(
        self, run: Run, code: str, message: str, param: str | None = None, *events: dict[str, Any]
    ) -> Ending:
        """The write that fails the job: another attempt would come to the same."""
        log.warning("%s: failed, %s: %s", run.job.id, code, message)
        error = JobError(code=code, message=message[:_LONGEST_MESSAGE], param=param)
        rest = run.relay.rest(*events)
        return partial(self._store.fail, run.job.id, error, events=rest, attempt=run.job.attempt)

    def _given_back(self, run: Run, why: JobError, most_failures: int | None = None) -> Ending:
        """The write that ends the run and not the job."""
        log.warning("%s: goes back, %s: %s", run.job.id, why.code, why.message)
        return partial(
            self._store.give_back,
            run.job.id,
            why,
            most_failures=most_failures,
            events=run.relay.rest(),
            attempt=run.job.attempt,
        )

    def _fetch_checkpoint(self, run: Run) -> None:
        missing = run.patiently(lambda: run.checkpoints.fetch(run.folder, run.tend))
        if missing is not None:
            log.warning("%s: %s", run.job.id, missing)
            run.relay.offer(WarningEvent(message=missing))

    def _fetch_dataset(self, run: Run) -> None:
        """Copy the named data set into the folder; a process of its own gets it where it is not here yet."""
        name = run.job.dataset.name
        here = catalogue.find(
            name, datasets_dir=self._settings.datasets_dir, cache_dir=self._settings.cache_dir
        )
        if here is not None:
            inputs.take_dataset(here, run.job, run.folder, run.tend)
            return
        if catalogue.is_from_hub(name) and not self._settings.hub_datasets:
            raise HubDatasetsOffError(name)
        run.relay.offer(StageEvent(stage="preparing", message=f"fetching the data set {name}"))
        found: dict[str, Any] = {}

        def hear(line: bytes) -> float | None:
            try:
                said = json.loads(line)
            except ValueError:
                return None
            if isinstance(said, dict) and ("path" in said or said.get("type") == "error"):
                found.update(said)
                return attempt.LEAVE_TAKING
            return None

        cell = inputs.fetch_cell(self._settings, name, run.folder)
        child = Child(cell, inputs.fetch_environment(self._settings, run.folder))
        run.attend(child, hear, keeps_checkpoints=False)
        if "path" in found:
            inputs.take_dataset(Path(found["path"]), run.job, run.folder, run.tend)
        elif "code" in found:
            raise told(str(found["code"]), str(found.get("message", "")), found.get("param"))
        else:
            log.warning("%s: fetching %s: %s", run.job.id, name, child.errors())
            raise DatasetUnavailableError(f"fetching '{name}' failed: {child.crash_reason()}")

    def _run_child(self, run: Run) -> Ending:
        """Run the child; pass its events on; say how the run ends."""
        job = run.job
        last: list[DoneEvent | ErrorEvent] = []
        stages = Stages()
        stopped = threading.Event()

        def hear(line: bytes) -> float | None:
            try:
                event = parse_event(line)
            except ValueError:
                log.debug("%s: no event: %r", job.id, line[:200])
                return None
            if isinstance(event, CheckpointEvent):
                run.checkpoints.offer(event, run.folder)
            elif isinstance(event, StoppedEvent):
                stopped.set()
                return 0.0  # all that it had to say and to keep is said and kept
            elif isinstance(event, DoneEvent | ErrorEvent):
                last.append(event)
                return attempt.LEAVE_TAKING
            else:
                stages.hear(event)
                run.relay.offer(event)
            return None

        cell = inputs.child_cell(self._settings, job, run.folder)
        child = Child(cell, child_environment(self._settings, run.folder))
        try:
            with tracing.span("child", pid=child.pid):
                try:
                    run.attend(child, hear, keeps_checkpoints=True)
                finally:
                    stages.close()
        except StoppedError:
            if not last:
                raise
        finally:
            self._count(observed("memory", MEMORY_BOUNDS, child.peak_bytes))
        if not last:
            if stopped.is_set() and self._stop.wait(_BOTH_TOLD):
                raise StoppedError(reasons.STOPPED)
            log.warning("%s: the child crashed: %s", job.id, child.errors())
            if (exceeded := child.exceeded()) is not None:
                return self._failed(run, "run_limit_exceeded", f"the run was ended: {exceeded}")
            run.settle()
            crash = reasons.crashed(ended(-signal.SIGTERM) if stopped.is_set() else child.crash_reason())
            if space_of(self._settings.scratch, _NO_ROOM).room == 0:
                self._unwell += 1
                crash = reasons.FULL  # whatever it died of; it may not have been able to say so
            return self._given_back(run, crash, self._settings.max_attempts)
        event = last[-1]
        said = event.model_dump(mode="json")
        if isinstance(event, ErrorEvent) and event.code in reasons.OF_THE_MACHINE:
            self._unwell += 1
            run.settle()
            why = JobError(code=event.code, message=event.message[:_LONGEST_MESSAGE])
            return self._given_back(run, why, self._settings.max_attempts)
        self._unwell = 0
        if isinstance(event, ErrorEvent):
            return self._failed(run, event.code, event.message, event.param, said)
        artifacts = [
            run.patiently(partial(upload, job, name, path, self._artifacts))
            for name, path in check_outputs(event, run.folder).items()
        ]
        result = JobResult(density=event.density, metrics=event.metrics, artifacts=artifacts)
        events = run.relay.rest(said)
        return partial(self._store.succeed, job.id, result, events=events, attempt=job.attempt)

    def _count(self, figures: Iterator[str]) -> None:
        """Figures are no reason to wait for the store, nor to fail."""
        with contextlib.suppress(StoreUnavailableError):
            self._store.count(figures)

    def _patiently(self, write: Callable[[], T]) -> T:
        """Write down what came of a run, and try again while the store is away, for as long as is set."""
        until = time.monotonic() + self._settings.store_patience_seconds
        while True:
            try:
                return write()
            except StoreUnavailableError as error:
                if time.monotonic() > until:
                    raise
                log.warning("trying again in a second: %s", error)
                time.sleep(1.0)
