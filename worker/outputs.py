"""What a child left in `out/`, on its way into the artifact store."""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath

from jobs.artifacts import ArtifactStore, output_key
from jobs.errors import JobsError
from jobs.filenames import saved_as
from jobs.record import Artifact, Job
from prune_engine.events import DoneEvent

_MOST = 200
_ALWAYS = {"report.json"}
_MODELS = {"model.onnx", "model.zip"}


class OutputsError(JobsError):
    """The child named outputs that are not there, or are no plain files below `out/`."""

    code = "outputs_invalid"


def check_outputs(done: DoneEvent, folder: Path) -> dict[str, Path]:
    """The files that the child says it wrote, by name. Nothing that a name or a link could lead to elsewhere.

    Raises:
        OutputsError: a file is missing, is no plain file, or has an impossible name.
    """
    if missing := _ALWAYS - set(done.outputs):
        raise OutputsError(f"the run ended without {', '.join(sorted(missing))}")
    if not _MODELS & set(done.outputs):
        raise OutputsError(f"the run ended without {' or '.join(sorted(_MODELS))}")
    if len(done.outputs) > _MOST:
        raise OutputsError(f"the run left {len(done.outputs)} files; {_MOST} are the most")
    return {name: plain_file(folder / "out", name) for name in done.outputs}


def plain_file(root: Path, name: str) -> Path:
    """The file of this name below `root`, where it is one.

    Raises:
        OutputsError: it is missing, is no plain file, or has an impossible name.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or not all(_plain_name(part) for part in parts):
        raise OutputsError(f"'{name[:100]}' is no name of an output")
    path = root
    for place, part in enumerate(parts):
        path = path / part
        wanted = stat.S_ISREG if place == len(parts) - 1 else stat.S_ISDIR
        try:
            plain = wanted(path.lstat().st_mode)
        except OSError:
            plain = False
        if not plain:
            raise OutputsError(f"the run says that it wrote '{name}', which is no plain file in {root.name}/")
    return path


def _plain_name(part: str) -> bool:
    return part not in (".", "..") and all(c.isascii() and (c.isalnum() or c in "._-") for c in part)


def upload(job: Job, name: str, path: Path, artifacts: ArtifactStore) -> Artifact:
    """Store one output of a run.

    Raises:
        ArtifactsUnavailableError: the artifact store fails.
    """
    key = output_key(job.id, job.attempt, name)
    stored = artifacts.put_file(key, path, saved_as(job.model.filename, name))
    return Artifact(name=name, bytes=stored.bytes, sha256=stored.sha256, key=key)
