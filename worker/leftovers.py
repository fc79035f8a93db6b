"""Files that no longer count: what runs stored that lost their job, and checkpoints of one that is done."""

from __future__ import annotations

import logging

from jobs.artifacts import ArtifactStore, checkpoints_prefix, key_of, outputs_prefix
from jobs.errors import ArtifactsUnavailableError, JobNotFoundError, StoreUnavailableError
from jobs.record import Job
from jobs.store import JobStore

log = logging.getLogger(__name__)


def discard(run: Job, store: JobStore, artifacts: ArtifactStore) -> None:
    """Take away what a run stored and the record does not name: the job was not this run's any more."""
    try:
        try:
            named = _named(store.get(run.id))
        except JobNotFoundError:
            named = set()
        prefixes = (
            f"{outputs_prefix(run.id)}/{run.attempt}/",
            f"{checkpoints_prefix(run.id)}/{run.attempt}-",
        )
        artifacts.delete_files(
            key for key in _all(run, artifacts) if key.startswith(prefixes) and key not in named
        )
    except (StoreUnavailableError, ArtifactsUnavailableError) as error:
        log.warning("%s: files of attempt %d stay, %s", run.id, run.attempt, error)


def tidy(job: Job, artifacts: ArtifactStore) -> None:
    """Take away what a job that has succeeded needs no longer: checkpoints, and outputs of lost runs."""
    try:
        named = _named(job)
        artifacts.delete_files(key for key in _all(job, artifacts) if key not in named)
    except ArtifactsUnavailableError as error:
        log.warning("%s: old checkpoints stay, %s", job.id, error)


def _all(job: Job, artifacts: ArtifactStore) -> list[str]:
    return [*artifacts.keys(outputs_prefix(job.id)), *artifacts.keys(checkpoints_prefix(job.id))]


def _named(job: Job) -> set[str]:
    """The keys that the record names."""
    outputs = {key_of(job.id, file) for file in job.result.artifacts} if job.result is not None else set()
    return outputs | ({file.key for file in job.checkpoint.files} if job.checkpoint is not None else set())
