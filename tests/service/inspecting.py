"""Asking for inspections, and an API whose children are programs of the test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from jobs.settings import Settings
from jobs.store import JobStore
from prune_engine.inspection import Inspection
from tests.prune_engine import inspected
from tests.service.conftest import Api, running

SOUND = inspected.two_layers().SerializeToString()
STRANGE = inspected.with_a_stranger().SerializeToString()


def sent(model: bytes = SOUND, name: str = "net.onnx") -> dict[str, Any]:
    return {"model": (name, model)}


def look(api: Api, model: bytes = SOUND, name: str = "net.onnx", **fields: str) -> httpx.Response:
    return api.client.post("/models/inspect", files=sent(model, name), data=fields)


def check(api: Api, files: dict[str, Any] | None = None, **fields: str) -> httpx.Response:
    form = {"density": "0.5", "dataset": "digits"} | fields
    if files and "dataset" in files:
        del form["dataset"]
    return api.client.post("/jobs?validate_only=true", files=files or sent(), data=form)


def nothing_is_left(api: Api, store: JobStore) -> None:
    assert store.page(10) == ([], False)
    assert api.stored() == []
    assert left(api) == []


def left(api: Api) -> list[Path]:
    return [path for path in api.settings.scratch.glob("*/*") if path.name != ".lock"]


def script(tmp_path: Path, body: str) -> tuple[str, ...]:
    """A command that stands in for the engine; `folder` is where the model lies."""
    path = tmp_path / "stand_in.py"
    path.write_text(
        f"import os, signal, sys, time\nfrom pathlib import Path\nfolder = Path(sys.argv[1])\n{body}"
    )
    return (sys.executable, str(path))


def answering(found: Inspection) -> str:
    """What a stand-in does that has looked through the model already."""
    return (
        f"(folder / 'out' / 'inspection.json').write_text({found.model_dump_json()!r})\n"
        'print(\'{"type": "inspected", "prunable": true, "outputs": []}\')'
    )


@contextmanager
def standing_in(settings: Settings, tmp_path: Path, body: str, **changed: Any) -> Iterator[Api]:
    command = script(tmp_path, body)
    with running(settings.model_copy(update={"inspect_command": command, **changed})) as api:
        yield api
