"""A form looked through instead of queued: `POST /models/inspect`, and `POST /jobs?validate_only=true`.

Nothing is queued or recorded. The files lie in a scratch folder of this process, which is gone when the
answer is given, whatever became of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import anyio.to_thread
from fastapi import Request, Response
from pydantic import ValidationError

from jobs.artifacts import ArtifactStore, input_key
from jobs.record import DatasetRef, ModelFile, TokenizerFile, new_job_id
from prune_engine import catalogue
from prune_engine.errors import OutOfMemoryError, PruneError, told
from prune_engine.inspection import Inspection
from service.errors import (
    ClientGoneError,
    FieldMissingError,
    InspectionBusyError,
    InspectionCrashedError,
)
from service.form import partial_spec_of
from service.negotiation import prefers
from service.rooms import Rooms
from service.submission import chosen_dataset, job_of
from service.uploads import Form, receive_form

_HTML: Final = "text/html"
_LARGEST: Final = 64 * 1024 * 1024


async def inspect(request: Request, rooms: Rooms) -> Inspection:
    """What a job with the model of the form would find; every field but `model` may be left out.

    Raises:
        PruneError: the form or its files are wrong, or the model cannot be read at all.
    """
    return await _counted(_inspect(request, rooms, is_job=False), rooms)


async def validate(request: Request, rooms: Rooms) -> Inspection:
    """What the job of the form would find.

    Raises:
        PruneError: as the job would be refused, or would fail.
    """
    inspection = await _counted(_inspect(request, rooms, is_job=True), rooms)
    for problem in inspection.problems:
        if problem.code == OutOfMemoryError.code:
            raise InspectionCrashedError(problem.message, param=problem.param)
        raise told(problem.code, problem.message, problem.param)
    return inspection


def answer(inspection: Inspection, format: str | None, accept: str) -> Response:
    """JSON by default; a page where `format` or the `Accept` header asks for one."""
    html = format == "html" if format else prefers(accept, _HTML, "application/json") == _HTML
    if not html:
        return Response(inspection.model_dump_json(), media_type="application/json")
    from prune_engine.inspection_page import render_inspection

    return Response(render_inspection(inspection), media_type=_HTML)


async def _counted(work: Any, rooms: Rooms) -> Inspection:
    try:
        inspection: Inspection = await work
    except PruneError as error:
        rooms.metrics.inspected.labels(error.code).inc()
        raise
    rooms.metrics.inspected.labels("prunable" if inspection.prunable else "not_prunable").inc()
    return inspection


async def _inspect(request: Request, rooms: Rooms, *, is_job: bool) -> Inspection:
    async with rooms.inspector.folder() as folder:
        uploads, work = folder / "uploads", folder / "work"
        here = rooms.settings.model_copy(update={"artifacts_url": uploads.as_uri()})
        name = new_job_id()
        form = await receive_form(request, replace(rooms, artifacts=ArtifactStore(here)), name)
        spec, dataset, model = await _asked(form, rooms, name, is_job=is_job)
        sent = uploads / input_key(name, "model").rpartition("/")[0]
        readable = await anyio.to_thread.run_sync(
            lambda: _write_folder(work, sent, spec, model, dataset, form.tokenizer, rooms)
        )
        async with _leaving(request, rooms) as leave:
            try:
                await rooms.inspector.run(work, *leave, readable=readable)
            except ClientGoneError:
                if rooms.stopping.is_set():
                    raise InspectionBusyError("this server is being stopped; send the model again") from None
                raise
        return await anyio.to_thread.run_sync(_result, work)


async def _asked(
    form: Form, rooms: Rooms, name: str, *, is_job: bool
) -> tuple[str, DatasetRef | None, ModelFile]:
    """The spec as JSON, the data and the model that the form asks for; of a job as a job asks for them."""
    if is_job:
        job = await job_of(form, rooms, name)
        return job.spec.model_dump_json(), job.dataset, job.model
    if form.model is None:
        raise FieldMissingError(
            "model is missing; send the file with curl -F model=@model.onnx", param="model"
        )
    return json.dumps(partial_spec_of(form.fields)), await chosen_dataset(form, rooms), form.model


def _write_folder(
    work: Path,
    sent: Path,
    spec: str,
    model: ModelFile,
    dataset: DatasetRef | None,
    tokenizer: TokenizerFile | None,
    rooms: Rooms,
) -> list[Path]:
    """The folder as the child wants it; the files are moved there, not copied. What it reads elsewhere."""
    readable: list[Path] = []
    for folder in (work, work / "out", work / "tmp"):
        folder.mkdir()
    (sent / "model").rename(work / model.input_name)
    if tokenizer is not None:
        (sent / "tokenizer").rename(work / "tokenizer.json")
    about: dict[str, Any] = {"model_filename": model.filename}
    if dataset is not None:
        about |= {"dataset_name": dataset.name, "dataset_source": dataset.source}
        if dataset.source == "supplied":
            (sent / "data").rename(work / f"data.{dataset.format}")
        else:
            about |= _named(dataset.name, rooms)
            if Path(about.get("dataset_path", "")).is_absolute():
                readable.append(Path(about["dataset_path"]))
    (work / "spec.json").write_text(spec)
    (work / "job.json").write_text(json.dumps(about))
    return readable


def _named(name: str, rooms: Rooms) -> dict[str, Any]:
    """Where a named data set lies; what is not on this machine is not fetched for an inspection."""
    settings = rooms.settings
    here = catalogue.find(name, datasets_dir=settings.datasets_dir, cache_dir=settings.cache_dir)
    if here is not None:
        return {"dataset_path": str(here)}
    if catalogue.is_built_in(name):
        return {"dataset_path": name}
    note = f"The data set '{name}' is not on this machine yet, so whether it fits the model was not checked."
    return {"notes": [note]}


@contextlib.asynccontextmanager
async def _leaving(request: Request, rooms: Rooms) -> AsyncIterator[tuple[asyncio.Future[Any], ...]]:
    """What ends the wait: the client hangs up, or the server is asked to end."""
    waiting = (asyncio.ensure_future(_hung_up(request)), asyncio.ensure_future(rooms.stopping.wait()))
    try:
        yield waiting
    finally:
        for one in waiting:
            one.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _result(work: Path) -> Inspection:
    """What the child wrote, read without trusting it."""
    path = work / "out" / "inspection.json"
    try:
        found = path.lstat()
        if path.parent.is_symlink() or not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
            raise InspectionCrashedError("the process that looked through the model left no usable result")
        return Inspection.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InspectionCrashedError(
            f"the process that looked through the model left no usable result ({type(error).__name__})"
        ) from None
