"""One attempt at a job: what a worker holds while it works on it, and what may interrupt it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from jobs.errors import (
    ArtifactsUnavailableError,
    InvalidTransitionError,
    JobNotFoundError,
    StoreUnavailableError,
)
from jobs.record import HELD, Job, JobError, Status
from jobs.settings import Settings
from jobs.store import JobStore
from worker import reasons
from worker.checkpoints import Checkpoints
from worker.child import Child
from worker.lease import Lease
from worker.relay import Relay

log = logging.getLogger(__name__)
_LOOK_EVERY = 0.5  # seconds between looks at the record: is a cancel or a pause asked for?
LEAVE_TAKING = 15.0  # seconds that a child may take to exit after its last event
_LINES_AT_ONCE = 1000
_LAST_CHECKPOINT = 6.0  # seconds that a stopping worker has to store it
_FETCHER_GRACE = 3.0  # seconds to tidy up in the cache that all fetchers share


T = TypeVar("T")


class CancelledError(Exception):
    """Somebody asked to cancel the job."""


class StoppedError(Exception):
    """The run has to end, and the job goes back: the worker stops, or a pause was asked for."""

    def __init__(self, why: JobError) -> None:
        super().__init__(why.message)
        self.why = why


class SilentError(Exception):
    """The child has said nothing for too long."""


class LostError(Exception):
    """The job is no longer this run's: deleted, ended, or given to another."""


class Run:
    """One attempt.

    Args:
        settings: how patient to be.
        store: has the record.
        job: the job, as it was when the run began.
        folder: what the child gets to see.
        lease: the run's hold on the job.
        checkpoints: where its checkpoints go.
        stop: set when the worker has to stop.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        job: Job,
        folder: Path,
        lease: Lease,
        checkpoints: Checkpoints,
        stop: threading.Event,
    ) -> None:
        self.job = job
        self.folder = folder
        self.relay = Relay(store, job, settings.progress_interval_seconds)
        self.checkpoints = checkpoints
        self._settings = settings
        self._store = store
        self._lease = lease
        self._stop = stop
        self._next_look = 0.0

    def tend(self) -> None:
        """Store what is due, and look whether the run may go on.

        Raises:
            CancelledError, StoppedError, LostError: it may not.
        """
        if self._lease.lost:
            raise LostError("its lease has run out and somebody else has it")
        self._look()
        if self._stop.is_set():
            raise StoppedError(reasons.STOPPED)

    def _look(self) -> None:
        try:
            self.relay.tick()
            if time.monotonic() < self._next_look:
                return
            now = self._store.get(self.job.id)
        except StoreUnavailableError:
            return  # an outage of the store is no reason to stop
        except (InvalidTransitionError, JobNotFoundError) as error:
            raise LostError(str(error)) from None
        self._next_look = time.monotonic() + _LOOK_EVERY
        if now.attempt != self.job.attempt or now.status not in HELD:
            raise LostError(f"it is {now.status} at attempt {now.attempt}")
        if now.status is Status.CANCELLING:
            raise CancelledError
        if now.status is Status.PAUSING:
            raise StoppedError(reasons.PAUSED)

    def patiently(self, write: Callable[[], T]) -> T:
        """Write or fetch, and try again while the store is away, as long as the settings say.

        Raises:
            CancelledError, StoppedError, LostError: the run may not go on.
            StoreUnavailableError, ArtifactsUnavailableError: it is away for too long.
        """
        until = time.monotonic() + self._settings.store_patience_seconds
        while True:
            try:
                return write()
            except (StoreUnavailableError, ArtifactsUnavailableError) as error:
                if time.monotonic() > until:
                    raise
                log.warning("%s: trying again in a second: %s", self.job.id, error)
                again = time.monotonic() + 1.0
                while time.monotonic() < again:
                    self.tend()
                    time.sleep(0.1)

    def settle(self) -> None:
        """Wait until the last checkpoint is stored; not for long when the worker has to stop.

        Raises:
            LostError: the job is no longer this run's.
        """
        until = time.monotonic() + self._settings.store_patience_seconds
        while not self.checkpoints.settled(0.1) and time.monotonic() < until:
            if self._lease.lost:
                raise LostError("its lease has run out and somebody else has it")
            if self._stop.is_set():
                until = min(until, time.monotonic() + _LAST_CHECKPOINT)

    def attend(self, child: Child, hear: Callable[[bytes], float | None], *, keeps_checkpoints: bool) -> None:
        """Listen to a child until it has ended.

        `hear` says of a line how many seconds the child may still take, if that was its last word.

        One that keeps checkpoints is asked to stop and is listened to while it writes one. What has no use
        for more time gets none.

        Raises:
            CancelledError, StoppedError, LostError, SilentError: the child was ended for that.
        """
        heard = time.monotonic()
        leave_by: float | None = None
        stopping: StoppedError | None = None
        try:
            with self._lease.guarding(child.pid):
                while True:
                    line = child.line(0.05)
                    for _ in range(_LINES_AT_ONCE):
                        if line is None:
                            break
                        heard = time.monotonic()
                        if (left := hear(line)) is not None:
                            by = time.monotonic() + left
                            leave_by = by if leave_by is None else min(by, leave_by)
                        line = child.line(0)
                    child.measure()
                    if child.status() is not None and child.drained():
                        break
                    if leave_by is not None and time.monotonic() > leave_by:
                        log.info("%s: the child need not stay any longer", self.job.id)
                        break
                    if time.monotonic() - heard > self._settings.silence_seconds:
                        raise SilentError
                    try:
                        self.tend()
                    except StoppedError as error:
                        if not keeps_checkpoints:
                            raise
                        if stopping is None:
                            log.info("%s: the child is asked to stop, %s", self.job.id, error)
                            stopping = error
                            child.ask_to_stop()
                            by = time.monotonic() + self._settings.stop_grace_seconds
                            leave_by = by if leave_by is None else min(by, leave_by)
        finally:
            child.end(0 if keeps_checkpoints or child.status() is not None else _FETCHER_GRACE)
        if stopping is not None:
            raise stopping
