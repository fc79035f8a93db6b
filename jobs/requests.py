"""What a client may ask of a job, as moves: cancel, pause, resume, retry.

Each is said once or often with the same outcome: what is as it was asked for already stays as it is.
"""

from __future__ import annotations

from jobs.errors import NotCancellableError, NotPausableError, NotResumableError, NotRetriableError
from jobs.moves import Change, Move, allow, moved
from jobs.record import Job, Status, now
from prune_engine.events import Progress


def cancel() -> Move:
    """A job that nobody works on is cancelled at once; a running one by its worker, which ends the child."""

    def move(job: Job) -> Change:
        if job.status in (Status.CANCELLING, Status.CANCELLED):
            return Change(job)
        if job.status in (Status.QUEUED, Status.PAUSED):
            return moved(job, Status.CANCELLED, (), "cancelled", finished_at=now())
        allow(job, Status.CANCELLING, NotCancellableError)
        return moved(job, Status.CANCELLING)

    return move


def pause() -> Move:
    """queued -> paused at once; running -> pausing, and the worker keeps a checkpoint."""

    def move(job: Job) -> Change:
        if job.status in (Status.PAUSING, Status.PAUSED):
            return Change(job)
        if job.status is Status.QUEUED:
            return moved(job, Status.PAUSED)
        allow(job, Status.PAUSING, NotPausableError)
        return moved(job, Status.PAUSING)

    return move


def resume() -> Move:
    """paused -> queued; it goes on from its last checkpoint. One that waits or runs already is left alone."""

    def move(job: Job) -> Change:
        if job.status in (Status.QUEUED, Status.RUNNING):
            return Change(job)
        if job.status is not Status.PAUSED:
            wait = "; ask again when it is paused" if job.status is Status.PAUSING else ""
            raise NotResumableError(f"{job.id} is {job.status}; only a paused job can be resumed{wait}")
        return moved(job, Status.QUEUED)

    return move


def retry() -> Move:
    """failed or cancelled -> queued, from the last checkpoint where there is one; failures count anew.

    One that waits or runs already is left alone.
    """

    def move(job: Job) -> Change:
        if job.status in (Status.QUEUED, Status.RUNNING):
            return Change(job)
        if job.status not in (Status.FAILED, Status.CANCELLED):
            raise NotRetriableError(
                f"{job.id} is {job.status}; only a failed or cancelled job can be tried once more"
            )
        progress = job.progress if job.checkpoint is not None else Progress()
        return moved(
            job,
            Status.QUEUED,
            total="retried",
            stage=None,
            started_at=None,
            finished_at=None,
            error=None,
            failures=0,
            progress=progress,
        )

    return move
