"""The folder of a job as its child finds it: spec, model, data."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from jobs.artifacts import ArtifactStore, input_key
from jobs.child_environment import child_environment
from jobs.record import Job
from jobs.sandbox import limits
from jobs.sandbox.cell import Cell, Wish
from jobs.sandbox.choice import sandbox_of
from jobs.settings import Settings

_PART = 8 * 1024 * 1024
# What fetching a data set needs besides: the way to the network.
_NETWORK = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "HF_ENDPOINT", "HF_TOKEN"),
)


def write_inputs(
    job: Job, folder: Path, artifacts: ArtifactStore, settings: Settings, between: Callable[[], None]
) -> None:
    """Write `spec.json` and `job.json`, and fetch the model and what else was uploaded.

    `between` is called between the parts of a long copy; what it raises ends the work.

    Raises:
        ArtifactNotFoundError, ArtifactsUnavailableError: a file cannot be fetched.
    """
    (folder / "out").mkdir(exist_ok=True)
    (folder / "tmp").mkdir(exist_ok=True)
    (folder / "spec.json").write_text(job.spec.model_dump_json())
    about = {
        "job_id": job.id,
        "model_filename": job.model.filename,
        "dataset_name": job.dataset.name,
        "dataset_source": job.dataset.source,
        "checkpoint_seconds": settings.checkpoint_seconds,
        "sandbox": sandbox_of(settings).description,
    }
    about |= job.model_dump(include={"request_id", "traceparent"}, exclude_none=True)
    (folder / "job.json").write_text(json.dumps(about))
    artifacts.fetch_file(input_key(job.id, "model"), folder / job.model.input_name, between)
    if job.dataset.source == "supplied":
        artifacts.fetch_file(input_key(job.id, "data"), data_file(job, folder), between)
    if job.tokenizer is not None:
        artifacts.fetch_file(input_key(job.id, "tokenizer"), folder / "tokenizer.json", between)


def data_file(job: Job, folder: Path) -> Path:
    """Where the job's data belong."""
    return folder / f"data.{job.dataset.format}"


def take_dataset(source: Path, job: Job, folder: Path, between: Callable[[], None]) -> None:
    """Copy a fetched data set into the folder. Not a link: other jobs use the same file."""
    with source.open("rb") as there, data_file(job, folder).open("wb") as here:
        while part := there.read(_PART):
            here.write(part)
            between()


def child_cell(settings: Settings, job: Job, folder: Path) -> Cell:
    """The command that runs a job's folder, and what it runs in.

    Raises:
        SandboxUnavailableError: the sandbox cannot give what the job needs.
    """
    command = settings.child_command or (sys.executable, "-P", "-m", "prune_engine", "run")
    wish = Wish(
        (*command, str(folder)),
        folder,
        limits.of_job(settings, job.spec.max_minutes),
        network="loopback" if job.spec.gpus > 1 else "none",
    )
    return sandbox_of(settings).cell(wish)


def fetch_cell(settings: Settings, name: str, folder: Path) -> Cell:
    """The command that fetches a named data set and prints its path, and what it runs in.

    It keeps the network; files it can write in the cache alone.
    """
    settings.cache_dir.mkdir(parents=True, exist_ok=True)
    command = settings.fetch_command or (sys.executable, "-P", "-m", "prune_engine", "fetch")
    folders = ["--cache-dir", str(settings.cache_dir)]
    if settings.datasets_dir is not None:
        folders += ["--datasets-dir", str(settings.datasets_dir)]
    wish = Wish(
        (*command, name, *folders),
        folder,
        limits.of_job(settings),
        network="open",
        readable=(settings.datasets_dir,) if settings.datasets_dir is not None else (),
        writable=(settings.cache_dir,),
    )
    return sandbox_of(settings).cell(wish)


def fetch_environment(settings: Settings, folder: Path) -> dict[str, str]:
    """`child_environment` and the way to the network."""
    network = {name: os.environ[name] for name in _NETWORK if name in os.environ}
    return child_environment(settings, folder) | network
