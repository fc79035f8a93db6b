"""Writing an .npz file whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from prune_engine.data.raw import Array


def save_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write the arrays beside `path` and rename, so that nobody ever reads half a file.

    It gets its rights as it is made: a child beside Landlock may not change them afterwards.
    """
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}.part")
    try:
        with temporary.open("xb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
