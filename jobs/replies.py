"""What the server's answers to commits come to; shared by the two stores."""

from __future__ import annotations

import logging
from typing import Any

from redis.exceptions import ResponseError

from jobs.conditions import Conditions
from jobs.errors import (
    ActiveJobsExceededError,
    IdempotencyKeyInUseError,
    JobExistsError,
    StoreUnavailableError,
)
from jobs.record import Job

log = logging.getLogger(__name__)
DISK_SECONDS = 5.0
"""How long a commit waits for the server's disk; less than a connection waits for an answer, or the client
would take a slow disk for a lost answer and send the commit again."""
# Answers when what was written before is on the server's own disk, or after that time.
WAITAOF = ("WAITAOF", 1, 0, round(1_000 * DISK_SECONDS))


def check_conditions(reply: str, conditions: Conditions) -> None:
    """Look at whether the conditions of a change did hold.

    Raises:
        ActiveJobsExceededError, IdempotencyKeyInUseError: one does not.
    """
    if reply == "full":
        raise ActiveJobsExceededError(
            f"{conditions.active_jobs} jobs of this key have not ended, which is all that it may have; "
            "wait for one to end, or cancel one"
        )
    if reply == "unclaimed":
        raise IdempotencyKeyInUseError(
            "this request took so long that another one with its Idempotency-Key began; send it again for "
            "that one's job"
        )


def place_of(ranks: list[int | None]) -> int | None:
    """A job's place, from the places among those for any worker and those for one with a GPU."""
    return next((rank for rank in ranks if rank is not None), None)


def committed(replies: list[Any]) -> Any:
    """The reply of a commit that was to be on disk; where the disk is late that is only said."""
    commit, on_disk = replies
    if isinstance(commit, Exception):
        raise commit
    if commit[0] == "ok" and not isinstance(on_disk, ResponseError):
        if isinstance(on_disk, Exception):
            raise on_disk
        if on_disk[0] < 1:
            log.warning("the store was not able to write to its disk within %g s", DISK_SECONDS)
    return commit


def check_created(job: Job, replies: list[Any], conditions: Conditions) -> None:
    """Look at what creating a job came to.

    Raises:
        JobExistsError: the id is taken.
        ActiveJobsExceededError, IdempotencyKeyInUseError: a condition does not hold.
        StoreUnavailableError: the record did not reach the disk in time.
    """
    commit, on_disk = replies
    if isinstance(commit, Exception):
        raise commit
    check_conditions(commit[0], conditions)
    if commit[0] != "ok" and not _is_it(job, commit):
        raise JobExistsError(f"there is a job '{job.id}' already", param="job_id")
    if isinstance(on_disk, ResponseError):
        # A server older than 7.2, or one without an append-only file: its own settings decide.
        log.warning("the store cannot say when a record is on disk (%s)", on_disk)
    elif isinstance(on_disk, Exception):
        raise on_disk
    elif on_disk[0] < 1:
        raise StoreUnavailableError(
            f"the store could not write the job to its disk within {DISK_SECONDS:g} s; try again"
        )


def _is_it(job: Job, commit: list[Any]) -> bool:
    """Whether what has changed is this very job: its first answer was lost, and a worker took it since."""
    if commit[0] != "changed" or not commit[1]:
        return False
    there = Job.model_validate_json(commit[1])
    return (there.id, there.created_at) == (job.id, job.created_at)
