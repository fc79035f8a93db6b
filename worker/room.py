"""Whether the scratch disk has room for a job; one that it has none for stays in the queue and says why."""

from __future__ import annotations

import logging
import time
from typing import Final

from jobs.disk import Space, in_words, space_of
from jobs.errors import JobNotFoundError
from jobs.record import Job
from jobs.settings import Settings
from jobs.store import JobStore

log = logging.getLogger(__name__)
# The model as it was sent and as it goes back, and two checkpoints, each with weights and logits.
_MODELS: Final = 6


def needed(job: Job) -> int:
    """Bytes that a job's folder may come to have."""
    data = (job.dataset.bytes or 0) + (job.tokenizer.bytes if job.tokenizer else 0)
    return _MODELS * job.model.bytes + data


class Room:
    """Looks at the scratch disk before a job is taken."""

    def __init__(self, settings: Settings, store: JobStore, worker_id: str) -> None:
        self._settings = settings
        self._store = store
        self._worker_id = worker_id
        self._told: set[str] = set()

    def lacks(self, job_id: str) -> bool:
        """Whether there is too little room for a job; then its events say so, once.

        A job that nobody knows lacks nothing. Raises StoreUnavailableError.
        """
        try:
            job = self._store.get(job_id)
        except JobNotFoundError:
            return False
        space = space_of(self._settings.scratch, self._settings.min_free_bytes)
        if space.room >= needed(job):
            self._told.discard(job_id)
            return False
        log.warning("%s: stays in the queue, the scratch disk has %s free", job_id, in_words(space.free))
        if job_id not in self._told:
            self._told.add(job_id)
            self._store.note(
                job_id, {"time": time.time(), "type": "warning", "message": self._why(job, space)}
            )
        return True

    def _why(self, job: Job, space: Space) -> str:
        return (
            f"a worker ({self._worker_id}) has too little room on its scratch disk and leaves the job in the "
            f"queue: it may need {in_words(needed(job))}, and of {in_words(space.free)} that are free "
            f"{in_words(space.reserve)} stay free"
        )
