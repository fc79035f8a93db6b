"""Writing an .npz file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from prune_engine.data.raw import Array


def save_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write the arrays beside `path` and rename, so that nobody ever reads half a file.

    Everybody may read it, unless this is a child beside Landlock, which may not say so.
    """
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}.part")
    try:
        with temporary.open("xb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        with contextlib.suppress(PermissionError):
            temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
