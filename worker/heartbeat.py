"""Says that the worker lives, and looks after jobs that nobody looks after.

- A queued job whose message was lost is rung for: every one when the worker starts, and the oldest whenever
  the worker has been idle for two beats with jobs in its queues.
- A job whose worker is gone fails with `worker_lost`, or is cancelled, when that was asked for. It must
  have been seen alone for as long as a worker may miss its beats, since after an outage of the store every
  worker looks dead for a moment.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from jobs.doorbell import Doorbell
from jobs.errors import InvalidTransitionError, JobNotFoundError, StoreUnavailableError
from jobs.record import JobError, Status
from jobs.settings import Settings
from jobs.store import JobStore

log = logging.getLogger(__name__)
_MISSED_BEATS = 4
_RUNG_WHEN_IDLE = 10
LOST = JobError(
    code="worker_lost",
    message="the worker that ran the job is gone (killed, or its machine); send the job again",
)


def end_lost(store: JobStore, job_id: str) -> None:
    """End a job whose worker is gone: as its user wished where a cancel was asked for, else as failed."""
    try:
        if store.get(job_id).status is Status.CANCELLING:
            store.cancelled(job_id)
        else:
            store.fail(job_id, LOST)
    except (InvalidTransitionError, JobNotFoundError) as error:
        log.info("%s: ended meanwhile, %s", job_id, error)


class Heartbeat:
    """A thread that beats for one worker. `busy` says whether it runs a job."""

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        doorbell: Doorbell,
        worker_id: str,
        busy: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._store = store
        self._doorbell = doorbell
        self._worker_id = worker_id
        self._busy = busy
        self._dead_after = settings.heartbeat_seconds * _MISSED_BEATS
        self._alone_since: dict[str, float] = {}
        self._waiting: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Beat once, so that the worker counts as living before it takes a job, and go on in the thread.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        self._store.beat(self._worker_id, self._dead_after)
        self._thread.start()

    def stop(self) -> None:
        """Stop beating; the worker no longer counts as living."""
        self._stop.set()
        self._thread.join(15)
        try:
            self._store.leave(self._worker_id)
        except StoreUnavailableError as error:
            log.info("could not say goodbye: %s", error)

    def _beat_on(self) -> None:
        self._guarded(lambda: self._ring(self._mine()))
        while not self._stop.wait(self._settings.heartbeat_seconds):
            self._guarded(self._beat)

    def _beat(self) -> None:
        self._store.beat(self._worker_id, self._dead_after)
        self._fail_lost()
        waiting = set() if self._busy() else set(self._mine()[:_RUNG_WHEN_IDLE])
        self._ring(sorted(waiting & self._waiting))
        self._waiting = waiting

    def _fail_lost(self) -> None:
        now = time.monotonic()
        alone = {job.id for job in self._store.orphans()}
        self._alone_since = {job_id: self._alone_since.get(job_id, now) for job_id in alone}
        for job_id, since in self._alone_since.items():
            if now - since >= self._dead_after:
                log.warning("%s: its worker is gone", job_id)
                end_lost(self._store, job_id)

    def _mine(self) -> list[str]:
        """The queued jobs that this worker serves, oldest first."""
        queued = self._store.ids(Status.QUEUED)
        if {self._settings.queue, self._settings.gpu_queue} <= set(self._settings.queues):
            return queued
        return [i for i in queued if self._doorbell.queue_of(self._device(i)) in self._settings.queues]

    def _device(self, job_id: str) -> str:
        try:
            return self._store.get(job_id).spec.device
        except JobNotFoundError:
            return "auto"

    def _ring(self, job_ids: list[str]) -> None:
        for job_id in job_ids:
            self._doorbell.ring(job_id, device=self._device(job_id))
        if job_ids:
            log.info("rang again for %d queued jobs", len(job_ids))

    def _guarded(self, act: Callable[[], None]) -> None:
        """An outage of the store skips a beat; anything else must not silence the worker either."""
        try:
            act()
        except StoreUnavailableError as error:
            log.warning("a beat was missed: %s", error)
            self._alone_since = {}
            self._waiting = set()
        except Exception:
            log.exception("a beat failed")
