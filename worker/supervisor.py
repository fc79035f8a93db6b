"""One job from its message to its end: take it, feed a child, listen to it, and write down what came of it.

The record is the truth. Whoever has moved it to `running` has the job; every later write carries the
attempt's number, so a run that was given up cannot write into another's. A message for a job that is not
queued is nothing.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from jobs.artifacts import ArtifactStore
from jobs.child_environment import child_environment
from jobs.errors import (
    ArtifactsUnavailableError,
    HubDatasetsOffError,
    InvalidTransitionError,
    JobNotFoundError,
    NotStartableError,
    StoreUnavailableError,
)
from jobs.record import Job, JobError, JobResult, Status
from jobs.scratch import Scratch
from jobs.settings import Settings
from jobs.store import JobStore
from prune_engine import catalogue
from prune_engine.errors import DatasetUnavailableError, PruneError, told
from prune_engine.events import DoneEvent, ErrorEvent, StageEvent, parse_event
from worker import inputs
from worker.child import Child
from worker.outputs import check_outputs, upload
from worker.relay import Relay

log = logging.getLogger(__name__)
_LOOK_EVERY = 0.5  # seconds between looks at the record: is a cancel asked for?
_LEAVE_TAKING = 15.0  # seconds that a child may take to exit after its last event
_LINES_AT_ONCE = 1000
_LONGEST_MESSAGE = 4000
T = TypeVar("T")
Ending = Callable[[], Job]


class _CancelledError(Exception):
    """Somebody asked to cancel the job."""


class _StoppedError(Exception):
    """The worker has to stop."""


class _LostError(Exception):
    """The job is no longer this run's: deleted, ended, or given to another."""


class Supervisor:
    """Runs one job at a time. `stop` set: the job that runs is ended, and its record says why."""

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
        self._next_look = 0.0
        self.busy = False

    def run(self, job_id: str) -> None:
        """Run a queued job to its end; return when that is written down. Does nothing for any other job."""
        self.busy = True
        try:
            self._run(job_id)
        finally:
            self.busy = False

    def _run(self, job_id: str) -> None:
        try:
            job = self._store.start(job_id, self._worker_id)
        except (JobNotFoundError, NotStartableError) as error:
            log.info("%s: nothing to do, %s", job_id, error)
            return
        log.info("%s: attempt %d begins", job.id, job.attempt)
        relay = Relay(self._store, job, self._settings.progress_interval_seconds)
        try:
            with self._scratch.folder(f"{job.id}-{job.attempt}") as folder:
                ending = self._work(job, folder, relay)
            ended = self._patiently(ending)
        except (_LostError, InvalidTransitionError, JobNotFoundError) as error:
            log.warning("%s: given up, %s", job.id, error)
        else:
            log.info("%s: %s", job.id, ended.status)

    def _work(self, job: Job, folder: Path, relay: Relay) -> Ending:
        """Do the job in `folder`; return the write that ends it, to be made once the folder is gone."""
        fail = partial(self._failure, job, relay)
        try:
            inputs.write_inputs(job, folder, self._artifacts, partial(self._tend, job, relay))
            if job.dataset.source == "named":
                self._fetch_dataset(job, folder, relay)
            return self._run_child(job, folder, relay)
        except _CancelledError:
            return partial(self._store.cancelled, job.id, events=relay.rest(), attempt=job.attempt)
        except _StoppedError:
            return fail("worker_stopped", "the worker was stopped while the job ran; send the job again")
        except _LostError:
            raise
        except PruneError as error:
            return fail(error.code, error.message, error.param)
        except OSError as error:
            log.exception("%s: the worker failed", job.id)
            return fail("worker_failed", f"the worker's disk or system failed ({error.strerror}); try again")

    def _failure(
        self,
        job: Job,
        relay: Relay,
        code: str,
        message: str,
        param: str | None = None,
        *events: dict[str, Any],
    ) -> Ending:
        log.warning("%s: failed, %s: %s", job.id, code, message)
        error = JobError(code=code, message=message[:_LONGEST_MESSAGE], param=param)
        return partial(self._store.fail, job.id, error, events=relay.rest(*events), attempt=job.attempt)

    def _fetch_dataset(self, job: Job, folder: Path, relay: Relay) -> None:
        """Copy the named data set into the folder; a process of its own gets it where it is not here yet."""
        name = job.dataset.name
        here = catalogue.find(
            name, datasets_dir=self._settings.datasets_dir, cache_dir=self._settings.cache_dir
        )
        if here is not None:
            inputs.take_dataset(here, job, folder, partial(self._tend, job, relay))
            return
        if catalogue.is_from_hub(name) and not self._settings.hub_datasets:
            raise HubDatasetsOffError(name)
        relay.offer(StageEvent(stage="preparing", message=f"fetching the data set {name}"))
        found: dict[str, Any] = {}

        def hear(line: bytes) -> bool:
            try:
                said = json.loads(line)
            except ValueError:
                return False
            if isinstance(said, dict) and ("path" in said or said.get("type") == "error"):
                found.update(said)
                return True
            return False

        command = inputs.fetch_command(self._settings, name)
        child = Child(command, folder, inputs.fetch_environment(self._settings, folder))
        self._attend(child, job, relay, hear)
        if "path" in found:
            inputs.take_dataset(Path(found["path"]), job, folder, partial(self._tend, job, relay))
        elif "code" in found:
            raise told(str(found["code"]), str(found.get("message", "")), found.get("param"))
        else:
            log.warning("%s: fetching %s: %s", job.id, name, child.errors())
            raise DatasetUnavailableError(f"fetching '{name}' failed: {child.crash_reason()}")

    def _run_child(self, job: Job, folder: Path, relay: Relay) -> Ending:
        """Run the child; pass its events on; say how the job ends."""
        last: list[DoneEvent | ErrorEvent] = []

        def hear(line: bytes) -> bool:
            try:
                event = parse_event(line)
            except ValueError:
                log.debug("%s: no event: %r", job.id, line[:200])
                return False
            if isinstance(event, DoneEvent | ErrorEvent):
                last.append(event)
                return True
            relay.offer(event)
            return False

        command = inputs.child_command(self._settings, folder)
        child = Child(command, folder, child_environment(self._settings, folder))
        self._attend(child, job, relay, hear)
        if not last:
            log.warning("%s: the child crashed: %s", job.id, child.errors())
            reason = f"the process that pruned the model is gone: {child.crash_reason()}"
            return self._failure(job, relay, "child_crashed", reason)
        event = last[-1]
        said = event.model_dump(mode="json")
        if isinstance(event, ErrorEvent):
            return self._failure(job, relay, event.code, event.message, event.param, said)
        outputs = check_outputs(event, folder)
        artifacts = [
            self._patiently(partial(upload, job, name, path, self._artifacts))
            for name, path in outputs.items()
        ]
        result = JobResult(density=event.density, metrics=event.metrics, artifacts=artifacts)
        return partial(self._store.succeed, job.id, result, events=relay.rest(said), attempt=job.attempt)

    def _attend(self, child: Child, job: Job, relay: Relay, hear: Callable[[bytes], bool]) -> None:
        """Listen to a child until it has ended. `hear` says whether a line was the child's last word."""
        leave_by: float | None = None
        try:
            while True:
                line = child.line(0.05)
                for _ in range(_LINES_AT_ONCE):
                    if line is None:
                        break
                    if hear(line) and leave_by is None:
                        leave_by = time.monotonic() + _LEAVE_TAKING
                    line = child.line(0)
                if child.status() is not None and child.drained():
                    return
                if leave_by is not None and time.monotonic() > leave_by:
                    log.warning("%s: the child said its last word but does not leave", job.id)
                    return
                self._tend(job, relay)
        finally:
            child.end(self._settings.cancel_grace_seconds if child.status() is None else 0)

    def _tend(self, job: Job, relay: Relay) -> None:
        """Store what is due, and look whether the job may go on."""
        if self._stop.is_set():
            raise _StoppedError
        try:
            relay.tick()
            if time.monotonic() < self._next_look:
                return
            now = self._store.get(job.id)
        except StoreUnavailableError:
            return  # an outage of the store is no reason to stop
        except (InvalidTransitionError, JobNotFoundError) as error:
            raise _LostError(str(error)) from None
        self._next_look = time.monotonic() + _LOOK_EVERY
        if now.attempt != job.attempt or now.status not in (Status.RUNNING, Status.CANCELLING):
            raise _LostError(f"it is {now.status} at attempt {now.attempt}")
        if now.status is Status.CANCELLING:
            raise _CancelledError

    def _patiently(self, write: Callable[[], T]) -> T:
        """Write, and try again while the store is away, as long as the settings say."""
        until = time.monotonic() + self._settings.store_patience_seconds
        while True:
            try:
                return write()
            except (StoreUnavailableError, ArtifactsUnavailableError) as error:
                if time.monotonic() > until:
                    raise
                log.warning("trying again in a second: %s", error)
                time.sleep(1.0)
