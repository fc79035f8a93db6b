"""What a child says, on its way into the job's record and stream: no more often than is good for it.

Progress is thinned to one event an interval. The first of a stage and the last before anything else always
pass; stages and warnings pass at once, until a child sends so many that they are thinned like progress.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from jobs.errors import StoreUnavailableError
from jobs.moves import Event as StoreEvent
from jobs.record import Job
from jobs.store import JobStore
from prune_engine.events import (
    CheckpointEvent,
    DoneEvent,
    ErrorEvent,
    Event,
    Progress,
    ProgressEvent,
    Stage,
    StageEvent,
    StoppedEvent,
)

log = logging.getLogger(__name__)
_FREE = 200  # stages and warnings of a job that pass at once
_PENDING = 500  # events kept while the store is away


class Relay:
    """Passes one run's events on. Outages of the store only delay them.

    Args:
        interval: least seconds between two progress events that are stored.
        clock: seconds, for tests.
    """

    def __init__(
        self, store: JobStore, job: Job, interval: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._job = job
        self._interval = interval
        self._clock = clock
        self._free = _FREE
        self._held: StoreEvent | None = None
        self._last_sent = float("-inf")
        self._pending: list[StoreEvent] = []
        self._stage: Stage | None = None
        self._progress: Progress | None = None

    def offer(self, event: Event) -> None:
        """Take an event; it is stored now, later, or (progress between two others) never."""
        if isinstance(event, CheckpointEvent | StoppedEvent | DoneEvent | ErrorEvent):
            return  # told when what it says has been made true
        if isinstance(event, ProgressEvent):
            self._progress = event.progress
        entered = isinstance(event, StageEvent | ProgressEvent) and event.stage != self._stage
        if isinstance(event, StageEvent | ProgressEvent):
            self._stage = event.stage
        said = event.model_dump(mode="json")
        if self._free > 0 and (entered or not isinstance(event, ProgressEvent)):
            self._free -= 1
            self._release()
            self._keep(said)
        elif self._clock() - self._last_sent >= self._interval:
            self._held = None
            self._keep(said)
        else:
            self._held = said

    def tick(self) -> None:
        """Store what is due.

        Raises:
            InvalidTransitionError, JobNotFoundError: the job is no longer this run's; stop.
        """
        if self._held is not None and self._clock() - self._last_sent >= self._interval:
            self._release()
        if not self._pending:
            return
        try:
            self._store.update(
                self._job.id, self._stage, self._progress, events=self._pending, attempt=self._job.attempt
            )
        except StoreUnavailableError as error:
            log.warning("%s: progress waits, %s", self._job.id, error)
            return
        self._pending = []

    def rest(self, *last: StoreEvent) -> list[StoreEvent]:
        """What has not been stored yet, with `last` at the end: for the write that ends the job."""
        self._release()
        return [*self._pending, *last]

    def _release(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            self._keep(held)

    def _keep(self, event: StoreEvent) -> None:
        self._pending.append(event)
        if event["type"] == "progress" or self._free == 0:
            self._last_sent = self._clock()
        if len(self._pending) > _PENDING:
            # A long outage: every second progress goes.
            progress = [e for e in self._pending if e["type"] == "progress"][::2]
            self._pending = [e for e in self._pending if e not in progress][-_PENDING:]
