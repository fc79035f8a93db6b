"""Cleans, once an hour and one worker at a time: jobs that have expired, files and keys that nobody has.

What it does may be done twice and may stop anywhere: a record goes before its files, so what is left is a
file that no record points to, which is cleaned later. Nothing of a job that has not ended is touched.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from jobs.artifacts import ArtifactStore
from jobs.errors import ArtifactsUnavailableError, StoreUnavailableError
from jobs.housekeeping import Housekeeping
from jobs.listing import ListedFile, Listing
from jobs.record import now
from jobs.retention import Retention, job_id_of
from jobs.scratch import Scratch
from jobs.settings import Settings

log = logging.getLogger(__name__)
_FIRST: Final = 60.0  # seconds after the start of a worker, at most
# Seconds in which nothing has changed in the scratch folder of a worker that is gone.
_ABANDONED: Final = 600.0
# Part of the interval in which nobody else's turn comes: clocks and waits are never exact.
_TURN: Final = 0.9


@dataclass
class Cleaned:
    """What a round removed."""

    jobs: int = 0
    files: int = 0
    bytes: int = 0
    keys: int = 0

    def __bool__(self) -> bool:
        return any(vars(self).values())


class Cleaner:
    """A thread of one worker that cleans when it is this worker's turn."""

    def __init__(self, settings: Settings, artifacts: ArtifactStore, worker_id: str) -> None:
        self._settings = settings
        self._retention = Retention.of(settings)
        self._artifacts = artifacts
        self._listing = Listing(settings)
        self._housekeeping = Housekeeping(settings)
        self._worker_id = worker_id
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._clean_on, name="cleaner", daemon=True)

    def start(self) -> None:
        """Begin, some time from now."""
        self._thread.start()

    def halt(self) -> None:
        """Begin nothing more, in the middle of a round if need be; `stop` waits."""
        self._stop.set()

    def stop(self) -> None:
        """Stop, and wait a little."""
        self.halt()
        if self._thread.ident is not None:
            self._thread.join(5)
        self._housekeeping.close()

    def _clean_on(self) -> None:
        wait = random.uniform(0.5, 1.0) * min(_FIRST, self._settings.clean_seconds)  # noqa: S311 - no secret
        while not self._stop.wait(wait):
            wait = self._settings.clean_seconds
            try:
                Scratch.remove_abandoned(self._settings.scratch, _ABANDONED)
                if self._housekeeping.take_turn(self._worker_id, wait * _TURN):
                    self.clean(now())
            except (StoreUnavailableError, ArtifactsUnavailableError) as error:
                log.warning("cleaning waits for the next round: %s", error)
            except Exception:
                log.exception("cleaning failed")

    def clean(self, at: datetime) -> Cleaned:
        """One round, as if it were `at`; what it removed.

        Raises:
            StoreUnavailableError, ArtifactsUnavailableError: a store is away; the next round goes on.
        """
        done = Cleaned()
        try:
            self._expire(at, done)
            if self._is_ours():
                self._remove_strays(at, done)
                done.files += self._listing.delete_unfinished(at - self._retention.strays)
            done.keys = self._housekeeping.forget_strays()
        finally:
            if done:
                log.info(
                    "cleaned: %d expired jobs, %d files with %d bytes, %d stray keys",
                    *(done.jobs, done.files, done.bytes, done.keys),
                )
                self._housekeeping.count(**vars(done))
        return done

    def _expire(self, at: datetime, done: Cleaned) -> None:
        """Delete expired jobs: the record first, since one without files would promise what is not there."""
        for job in self._housekeeping.expired(self._retention, at):
            if self._stop.is_set():
                return
            if self._housekeeping.expire(job.id, self._retention, at):
                keys = self._artifacts.keys(job.id)
                self._listing.delete(keys)
                done.jobs += 1
                done.files += len(keys)
                done.bytes += job.stored_bytes
                log.info("%s: expired, deleted with %d files", job.id, len(keys))

    def _is_ours(self) -> bool:
        """Whether the files are this job store's: one that lost its data must not take them for strays."""
        ours = self._housekeeping.identity()
        theirs = self._listing.owner(ours)
        if theirs == ours:
            return True
        log.error(
            "the files in the artifact store belong to another job store (%s, this one is %s): nothing that "
            "no record points to is removed. If the other is gone for good, delete the file 'prunery-store'",
            *(theirs[:40], ours),
        )
        self._housekeeping.count(refused=1)
        return False

    def _remove_strays(self, at: datetime, done: Cleaned) -> None:
        for batch in self._listing.batches():
            if self._stop.is_set():
                return
            old = [file for file in batch if at - file.modified >= self._retention.strays]
            strays = list(self._strays(old, at))
            for file in strays:
                log.info("%s: no record points to it, deleted", file.key)
            self._listing.delete(file.key for file in strays)
            done.files += len(strays)
            done.bytes += sum(file.bytes for file in strays)

    def _strays(self, files: list[ListedFile], at: datetime) -> Iterable[ListedFile]:
        """Those of the files that no record points to; the records are read after the files were listed."""
        jobs = self._housekeeping.records({i for file in files if (i := job_id_of(file.key)) is not None})
        for file in files:
            if self._retention.is_stray(file, jobs.get(job_id_of(file.key) or ""), at):
                yield file
