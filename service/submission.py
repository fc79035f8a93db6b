"""`POST /jobs`: the form in, a queued job out."""

from __future__ import annotations

from dataclasses import replace

import anyio
import anyio.to_thread
import structlog
from fastapi import Request

from jobs import tracing
from jobs.conditions import Claim, Conditions
from jobs.errors import (
    ActiveJobsExceededError,
    ArtifactsUnavailableError,
    HubDatasetsOffError,
    IdempotencyKeyInUseError,
)
from jobs.record import DatasetRef, Job, new_job_id, now
from jobs.settings import Settings
from jobs.webhooks.asking import secret_of, webhook_of
from prune_engine import catalogue
from prune_engine.errors import PruneError
from service.caller import Caller
from service.errors import FieldConflictError, FieldMissingError
from service.form import priority_of, spec_of
from service.gate import limit_of
from service.quota import quota_of
from service.rooms import Rooms
from service.uploads import Form, fingerprint, receive_form

_log = structlog.get_logger("service")
_REFUSED = (ActiveJobsExceededError, IdempotencyKeyInUseError)


async def submit(request: Request, rooms: Rooms, caller: Caller, claim: Claim | None = None) -> Job:
    """Receive a submission; when this returns, the job's record and files are on disk and a worker is told.

    Args:
        request: the request.
        rooms: the rooms.
        caller: who asks; the job is theirs.
        claim: the Idempotency-Key that the request holds; it is spent with the job.

    Raises:
        PruneError: whatever is wrong with the form or its files; nothing of it stays.
    """
    job_id, creating = new_job_id(), False
    try:
        async with quota_of(request, rooms, caller, job_id) as quota:
            form = await receive_form(request, rooms, job_id, quota.took)
            job = await job_of(form, rooms, job_id, caller.owner)
            secret = secret_of(form.fields) if job.webhook else None
            if claim is not None:
                claim = replace(claim, fingerprint=fingerprint(form))
            conditions = Conditions(active_jobs=active_jobs_of(caller, rooms), claim=claim)
            creating = True
            # Shielded, as what comes of it must be known.
            with anyio.CancelScope(shield=True):
                await rooms.store.create(job, conditions, secret=secret)
    except BaseException as error:
        if isinstance(error, PruneError):
            rooms.metrics.refused.labels(error.code).inc()
        # Once the record was sent only a refusal says that there is none: else a job may need the files.
        if not creating or isinstance(error, _REFUSED):
            # Shielded: a client that hangs up cancels this task, and its files must go all the same.
            with anyio.CancelScope(shield=True):
                await discard(job_id, rooms)
        raise
    rooms.metrics.submitted.inc()
    _log.info("submitted", job_id=job.id, model_bytes=job.model.bytes, dataset=job.dataset.name)
    await rooms.ring(job)
    return job


async def discard(job_id: str, rooms: Rooms) -> None:
    """Delete a job's files. A store that is away keeps them until the cleaner finds them without a record."""
    try:
        await rooms.artifacts.delete_prefix(job_id)
    except ArtifactsUnavailableError as error:
        _log.warning("files left behind", job_id=job_id, detail=error.message)


async def job_of(form: Form, rooms: Rooms, job_id: str, owner: str | None = None) -> Job:
    """The record that the form asks for.

    Raises:
        FormError, SpecError, UnknownDatasetError; those of `webhook_of`.
    """
    if form.model is None:
        raise FieldMissingError(
            "model is missing; send the file with curl -F model=@model.onnx", param="model"
        )
    spec = spec_of(form.fields)
    return Job(
        id=job_id,
        owner=owner,
        traceparent=tracing.here(),
        request_id=structlog.contextvars.get_contextvars().get("request_id"),
        spec=spec,
        model=form.model,
        dataset=await _dataset_of(form, rooms),
        tokenizer=form.tokenizer,
        priority=priority_of(form.fields),
        created_at=now(),
        webhook=webhook_of(form.fields, rooms.settings),
    )


async def _dataset_of(form: Form, rooms: Rooms) -> DatasetRef:
    found = await chosen_dataset(form, rooms)
    if found is None:
        raise FieldMissingError(
            "dataset is missing; send the name of a data set that GET /datasets lists (dataset=digits), "
            "or a file (dataset=@data.npz)",
            param="dataset",
        )
    return found


async def chosen_dataset(form: Form, rooms: Rooms) -> DatasetRef | None:
    """The data of a form: the file, or a name that the catalogue has; None where neither was sent.

    Raises:
        FieldConflictError: both were sent.
        UnknownDatasetError: no data set has this name.
        HubDatasetsOffError: it would have to be fetched from where the settings allow nothing.
    """
    name = form.fields.get("dataset", "").strip()
    if form.dataset is not None:
        if name:
            raise FieldConflictError("dataset was sent as a name and as a file; send one", param="dataset")
        return form.dataset
    if not name:
        return None
    await anyio.to_thread.run_sync(_check_name, name, rooms.settings)
    return DatasetRef(source="named", name=name)


def _check_name(name: str, settings: Settings) -> None:
    here = catalogue.find(name, datasets_dir=settings.datasets_dir, cache_dir=settings.cache_dir)
    if here is None and catalogue.is_from_hub(name) and not settings.hub_datasets:
        raise HubDatasetsOffError(name)


def active_jobs_of(caller: Caller, rooms: Rooms) -> int:
    """The caller's most jobs that have not ended; 0: any number."""
    if caller.key is None:
        return 0
    return limit_of(caller.key.limits.active_jobs, rooms.settings.key_active_jobs)
