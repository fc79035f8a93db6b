"""A run's hold on its job: the lease is renewed in a thread, and nobody works on the job without one."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from jobs.errors import StoreUnavailableError
from jobs.record import Job
from jobs.settings import Settings
from jobs.store import JobStore

log = logging.getLogger(__name__)
_AGAIN = 1.0  # seconds until the next try while the store is away
_PROGRAM = Path(__file__).with_name("guard.py")


class _Guard:
    """The process beside a child that freezes it when the lease has run out: `worker.guard`."""

    def __init__(self, group: int, ends: float) -> None:
        reading, self._pipe = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_PROGRAM), str(group), repr(ends)],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            env={},
            start_new_session=True,
        )
        os.close(reading)

    def tell(self, ends: float) -> None:
        """The lease ends later now."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, f"{ends!r}\n".encode())

    def leave(self) -> None:
        """Let the child be."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, b".\n")
        os.close(self._pipe)
        self._process.wait()


class Lease:
    """The lease of one run.

    Args:
        settings: how long it is, and how often it is renewed.
        store: who gave it.
        job: the run's job, as it was when the run began.
        taken_at: when it was asked for, by `time.monotonic`; it cannot end later than counted from there.
    """

    def __init__(self, settings: Settings, store: JobStore, job: Job, taken_at: float) -> None:
        self._settings = settings
        self._store = store
        self._job = job
        self._ends = taken_at + settings.lease_seconds
        self._guards: set[_Guard] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._renew_on,), name="lease", daemon=True
        )
        self.lost = False
        self._thread.start()

    @contextlib.contextmanager
    def guarding(self, group: int) -> Iterator[None]:
        """Have a process group frozen whenever the lease has run out, and killed with this worker."""
        with self._lock:
            guard = _Guard(group, self._ends)
            self._guards.add(guard)
        try:
            yield
        finally:
            with self._lock:
                self._guards.discard(guard)
            guard.leave()

    def close(self) -> None:
        """Renew it no more."""
        self._over.set()
        self._thread.join()

    def _renew_on(self) -> None:
        wait = self._settings.lease_renew_seconds
        while not self._over.wait(wait):
            asked = time.monotonic()
            try:
                if not self._store.renew(self._job, self._settings.lease_seconds):
                    self.lost = True
                    return
            except StoreUnavailableError as error:
                log.warning("%s: the lease was not renewed: %s", self._job.id, error)
                wait = min(_AGAIN, self._settings.lease_renew_seconds)
                continue
            except Exception:
                log.exception("%s: the lease was not renewed", self._job.id)
                continue
            wait = self._settings.lease_renew_seconds
            with self._lock:
                self._ends = asked + self._settings.lease_seconds
                for guard in self._guards:
                    guard.tell(self._ends)
