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
# Answers when what was written before is on the server's own disk, or after ten seconds.
WAITAOF = ("WAITAOF", 1, 0, 10_000)


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
            log.warning("the store was not able to write to its disk within 10 s")
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
    if commit[0] != "ok":
        raise JobExistsError(f"there is a job '{job.id}' already", param="job_id")
    if isinstance(on_disk, ResponseError):
        # A server older than 7.2, or one without an append-only file: its own settings decide.
        log.warning("the store cannot say when a record is on disk (%s)", on_disk)
    elif isinstance(on_disk, Exception):
        raise on_disk
    elif on_disk[0] < 1:
        raise StoreUnavailableError("the store could not write the job to its disk within 10 s; try again")
