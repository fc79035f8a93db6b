"""Looks after jobs that nobody looks after: whose message was lost, or whose worker is gone.

In every worker, and at the start of the service. Everything here may be done by several at once, and twice:
a bell too many does no harm, and a lease is taken away only if it has run out by the store's own clock.
"""

from __future__ import annotations

import logging
import time

from jobs.doorbell import Doorbell
from jobs.errors import InvalidTransitionError, JobNotFoundError
from jobs.record import Job, JobError, Status
from jobs.settings import Settings
from jobs.store import JobStore

log = logging.getLogger(__name__)
_RUNG = 20  # of each queue: whoever has done a job rings for the next
LOST = JobError(
    code="worker_lost", message="the worker that ran the job is gone (killed, cut off, or its machine)"
)


class Sweeper:
    """One for each process that sweeps."""

    def __init__(self, settings: Settings, store: JobStore, doorbell: Doorbell) -> None:
        self._settings = settings
        self._store = store
        self._doorbell = doorbell
        self._lapsed_since: dict[str, float] = {}

    def begin(self) -> None:
        """At the start of a process: what an older Prunery left is put in order, and what waits is rung for.

        Raises:
            StoreUnavailableError: the store or the broker does not answer.
        """
        if mended := self._store.mend():
            log.info("mended %d jobs", mended)
        self.ring(self.waiting())

    def take_away_lapsed(self) -> None:
        """Give jobs whose lease has run out to the next worker; the users' wishes are kept, see `moves`.

        A lease must be found run out for as long as renewing it may take: after an outage of the store every
        one has, for a moment.

        Raises:
            StoreUnavailableError: the store or the broker does not answer.
        """
        now = time.monotonic()
        self._lapsed_since = {i: self._lapsed_since.get(i, now) for i in self._store.lapsed()}
        for job_id, since in self._lapsed_since.items():
            if now - since >= self._settings.lease_renew_seconds:
                self.take_away(job_id)

    def take_away(self, job_id: str, *, at_once: bool = False) -> None:
        """Take a job from a worker that is gone; `at_once`: whether or not its lease has run out."""
        try:
            job = self._store.take_away(job_id, LOST, self._settings.max_attempts, at_once=at_once)
        except (InvalidTransitionError, JobNotFoundError) as error:
            log.info("%s: nothing to take away, %s", job_id, error)
            return
        log.warning("%s: its worker is gone; it is %s", job_id, job.status)
        if job.status is Status.QUEUED:
            self.ring([job])

    def forget_looks(self) -> None:
        """After an outage of the store: what was seen before it says nothing."""
        self._lapsed_since = {}

    def waiting(self) -> list[Job]:
        """The first of the jobs that wait in the queues that this process serves."""
        served = [gpu for gpu in (False, True) if self._doorbell.queue(gpu) in self._settings.queues]
        found = []
        for gpu in served:
            for job_id in self._store.waiting(gpu, _RUNG):
                try:
                    found.append(self._store.get(job_id))
                except JobNotFoundError:
                    continue
        return found

    def ring(self, jobs: list[Job]) -> None:
        """Ring for jobs."""
        for job in jobs:
            self._doorbell.ring(job.id, gpu=job.needs_gpu)
        if jobs:
            log.info("rang for %d queued jobs", len(jobs))
