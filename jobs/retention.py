"""How long things are kept: which jobs have expired, and which files no record points to.

Pure functions of a record, a file and the time. What belongs to a job that has not ended is never given up,
whatever its age; a paused job has not ended.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from jobs.artifacts import input_key, key_of
from jobs.listing import ListedFile
from jobs.record import ENDED, Job, Status, sent_at
from jobs.settings import Settings

_ID: Final = re.compile(r"job_[0-9a-f]{12,60}")
_INPUTS: Final = ("model", "data", "tokenizer")


def job_id_of(key: str) -> str | None:
    """The job that a file is, or was, of; None: it is none of ours."""
    first, slash, _ = key.partition("/")
    return first if slash and _ID.fullmatch(first) else None


@dataclass(frozen=True)
class Retention:
    """`succeeded` and `others`: how long jobs are kept after they have ended; None: until they are deleted.

    `strays`: how old a file must be before it counts that no record points to it; an upload has none yet.
    """

    succeeded: timedelta | None
    others: timedelta | None
    strays: timedelta

    @classmethod
    def of(cls, settings: Settings) -> Retention:
        """What the settings say."""
        days, failed = settings.keep_days, settings.keep_failed_days
        others = days if failed is None else failed
        return cls(
            None if days is None else timedelta(days=days),
            None if others is None else timedelta(days=others),
            timedelta(hours=settings.stray_hours),
        )

    @property
    def shortest(self) -> timedelta | None:
        """No job that was sent later than this ago has expired; None: no job ever does."""
        some = [kept for kept in (self.succeeded, self.others) if kept is not None]
        return min(some, default=None)

    def expires_at(self, job: Job) -> datetime | None:
        """When an ended job expires; None: it has not ended, or is kept until it is deleted."""
        if job.status not in ENDED or job.finished_at is None:
            return None
        kept = self.succeeded if job.status is Status.SUCCEEDED else self.others
        return None if kept is None else job.finished_at + kept

    def is_expired(self, job: Job, at: datetime) -> bool:
        """Whether a job may be deleted at a time."""
        expires = self.expires_at(job)
        return expires is not None and expires <= at

    def is_stray(self, file: ListedFile, job: Job | None, at: datetime) -> bool:
        """Whether a file may be deleted: it is old, and no record points to it.

        Args:
            file: the file.
            job: the record of its job; None: there is none.
            at: the time.
        """
        job_id = job_id_of(file.key)
        if job_id is None or at - file.modified < self.strays:
            return False
        if job is None:
            return at.timestamp() - sent_at(job_id) >= self.strays.total_seconds()
        return job.status in ENDED and file.key not in named(job)


def named(job: Job) -> set[str]:
    """The keys of all files that a record points to."""
    outputs = {key_of(job.id, file) for file in job.result.artifacts} if job.result else set()
    checkpoint = {file.key for file in job.checkpoint.files} if job.checkpoint else set()
    return {input_key(job.id, name) for name in _INPUTS} | outputs | checkpoint
