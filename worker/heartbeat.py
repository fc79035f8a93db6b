"""Says that the worker lives, and sweeps between two beats: see `jobs.sweeper`.

Queued jobs are rung for when the worker starts, and whenever it has been idle for two beats with the same
jobs waiting.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from jobs.errors import StoreUnavailableError
from jobs.sandbox.choice import sandbox_of
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.sweeper import Sweeper

log = logging.getLogger(__name__)
_MISSED_BEATS = 4


class Heartbeat:
    """A thread that beats for one worker. `busy` says whether it runs a job."""

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        sweeper: Sweeper,
        worker_id: str,
        busy: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._store = store
        self._sweeper = sweeper
        self._worker_id = worker_id
        self._busy = busy
        self._dead_after = settings.heartbeat_seconds * _MISSED_BEATS
        self._waiting: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Beat once, so that the worker counts as living before it takes a job, and go on in the thread.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        self._say_alive()
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
        self._guarded(self._sweeper.begin)
        while not self._stop.wait(self._settings.heartbeat_seconds):
            self._guarded(self._beat)

    def _say_alive(self) -> None:
        self._store.beat(self._worker_id, self._dead_after, sandbox_of(self._settings).description)

    def _beat(self) -> None:
        self._say_alive()
        self._sweeper.take_away_lapsed()
        waiting = [] if self._busy() else self._sweeper.waiting()
        self._sweeper.ring([job for job in waiting if job.id in self._waiting])
        self._waiting = {job.id for job in waiting}

    def _guarded(self, act: Callable[[], None]) -> None:
        """An outage of the store skips a beat; anything else must not silence the worker either."""
        try:
            act()
        except StoreUnavailableError as error:
            log.warning("a beat was missed: %s", error)
            self._sweeper.forget_looks()
            self._waiting = set()
        except Exception:
            log.exception("a beat failed")
