"""Why a run ends although its job does not: what the event says, and the error if it happens too often."""

from __future__ import annotations

from jobs.disk import is_full
from jobs.record import JobError

PAUSED = JobError(code="pause_requested", message="a pause was asked for")
STOPPED = JobError(code="worker_stopped", message="the worker was told to stop; another one goes on")
FULL = JobError(code="disk_full", message="the disk of the machine that ran the job is full")
# What a child says of its machine and not of what was sent: another attempt may come to something else.
OF_THE_MACHINE = frozenset({"disk_full"})


def crashed(how: str) -> JobError:
    """The child is gone without a word."""
    return JobError(code="child_crashed", message=f"the process that pruned the model is gone: {how}"[:4000])


def silent(seconds: float) -> JobError:
    """The child says nothing and does not end: it is stuck, or was sent something that never ends."""
    return JobError(
        code="child_silent",
        message=f"the process that pruned the model said nothing for {seconds:g} s and was ended",
    )


def failed(error: OSError) -> JobError:
    """The worker's own system failed."""
    if is_full(error):
        return FULL
    return JobError(
        code="worker_failed", message=f"the worker's disk or system failed ({error.strerror or error})"
    )
