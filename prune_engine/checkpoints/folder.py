"""The folder of checkpoints: tensors come first, then the record that makes them count, then old ones go."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from prune_engine.checkpoints import tensors
from prune_engine.checkpoints.record import NAME, Record, StoredFile
from prune_engine.state import State

OURS = ("checkpoint-*.safetensors", f".{NAME}", ".tmp*")
"""Files of checkpoints, finished or not; what safetensors has under way is called .tmp and a few letters."""


class CheckpointFolder:
    """Where one job's checkpoints lie. There may be other files in it, which are left alone.

    Args:
        path: the folder; made when it is first written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def store(self, state: State, name: str) -> StoredFile:
        """Write a state into a file, which counts once a record names it.

        Raises:
            OSError: it could not be written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / name
        tensors.write(state, path)
        return StoredFile(name=name, sha256=_sha256(path), bytes=path.stat().st_size)

    def forget(self, name: str) -> None:
        """Remove a file that no record names."""
        (self.path / name).unlink(missing_ok=True)

    def load(self, stored: StoredFile) -> State:
        """A state that was stored.

        Raises:
            OSError, SafetensorError, ValueError: it is gone, or damaged.
        """
        return tensors.read(self.path / stored.name)

    def commit(self, record: Record) -> None:
        """From now on `record` is the checkpoint; files that it does not name go.

        Raises:
            OSError: it could not be written; the one before is the checkpoint still.
        """
        unfinished = self.path / f".{NAME}"
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(json.dumps(record.model_dump(), indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.path / NAME)
        folder = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self.sweep(record)

    def sweep(self, record: Record | None) -> None:
        """Remove what belongs to no checkpoint any more; what cannot be removed stays."""
        for pattern in OURS:
            for path in self.path.glob(pattern):
                if record is None or path.name not in record.files:
                    with suppress(OSError):
                        path.unlink()

    def record(self) -> Record | None:
        """The record that counts, every file of it looked at; None: there is none.

        Raises:
            ValueError: what is there cannot be used, with the reason.
        """
        path = self.path / NAME
        if not path.exists():
            return None
        try:
            record = Record.model_validate(json.loads(path.read_bytes()))
        except (OSError, ValueError):
            raise ValueError(f"{NAME} is damaged, or of another version") from None
        for stored in record.files.values():
            if not self._whole(stored):
                raise ValueError(f"{stored.name} is missing or damaged")
        return record

    def remove(self) -> None:
        """Leave no checkpoint; the folder goes too where nothing else is in it."""
        (self.path / NAME).unlink(missing_ok=True)
        if self.path.is_dir():
            self.sweep(None)
            if not any(self.path.iterdir()):
                self.path.rmdir()

    def _whole(self, stored: StoredFile) -> bool:
        path = self.path / stored.name
        return path.is_file() and path.stat().st_size == stored.bytes and _sha256(path) == stored.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
