"""Scratch folders: one for each process that runs children, below it one a child, gone when that is over.

A worker (or an API that inspects models) locks its folder for as long as it lives. What a dead one left is
known by its free lock and removed by the next one that starts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import psutil

_LOCK = ".lock"


class Scratch:
    """The folder of one worker, or one API, below `root`."""

    def __init__(self, root: Path, owner: str) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.remove_abandoned(root)
        self._folder = root / owner
        # Root starts its children as somebody else, who has to get to his own folder.
        self._folder.mkdir(mode=0o700 if os.geteuid() else 0o711)
        self._lock = _lock(self._folder)

    @contextlib.contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """An empty folder, removed with all that is in it when the block ends."""
        folder = self._folder / name
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            _remove(folder)

    def close(self) -> None:
        """Remove the whole folder."""
        _remove(self._folder)
        self._lock.close()

    @staticmethod
    def remove_abandoned(root: Path, age: float = 0.0) -> None:
        """Remove the folders below `root` whose owners are gone, unless something changed within `age` s."""
        for folder in root.iterdir():
            # A folder without a lock file is just being made.
            if _age(folder) >= age and (lock := _try_lock(folder)) is not None:
                _end_all_in(folder)
                _remove(folder)
                lock.close()


def _age(folder: Path) -> float:
    """Seconds since something was made or removed in a folder; 0 where it is gone."""
    try:
        return time.time() - folder.stat().st_mtime
    except OSError:
        return 0.0


def _end_all_in(folder: Path) -> None:
    """End what a child had started and left behind; it still has its working folder here."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder):
                process.kill()


def _lock(folder: Path) -> IO[bytes]:
    """A new lock file, open and locked. It gets its name after that: a free one is taken for a dead one's."""
    unnamed = folder / f"{_LOCK}.new"
    lock = unnamed.open("xb")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    unnamed.rename(folder / _LOCK)
    return lock


def _try_lock(folder: Path) -> IO[bytes] | None:
    """A folder's lock file, open and locked; None where it has none or another process holds the lock."""
    try:
        lock = (folder / _LOCK).open("r+b")
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock


def _remove(folder: Path) -> None:
    """Remove a folder even where what ran there took its own rights away."""

    def insist(function: Callable[[str], Any], path: str, _: object) -> None:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(path), 0o700)  # noqa: PTH101, PTH120
            if not os.path.islink(path):  # noqa: PTH114
                os.chmod(path, 0o700)  # noqa: PTH101
            function(path)

    shutil.rmtree(folder, onerror=insist)
