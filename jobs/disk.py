"""How much room a disk has, less the reserve that is kept for jobs that run."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobs.errors import DiskFullError

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Space:
    """The disk of a folder: bytes that are free, and those that are to stay free."""

    free: int
    reserve: int

    @property
    def room(self) -> int:
        """Bytes that may still be written."""
        return max(0, self.free - self.reserve)


def space_of(folder: Path, reserve: int) -> Space:
    """The space of the disk that a folder is on, or will be. Raises OSError."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    disk = os.statvfs(folder)
    return Space(disk.f_bavail * disk.f_frsize, reserve)


def check_room(folder: Path, reserve: int, wanted: int = 1) -> Space:
    """The space, where there is room for so many bytes.

    Raises:
        DiskFullError: there is not.
    """
    space = space_of(folder, reserve)
    if space.room < wanted:
        raise DiskFullError(
            f"the disk has {in_words(space.free)} free, of which {in_words(reserve)} are kept for jobs that "
            "run; send it later, or ask whoever runs the service to make room (jobs that have ended can be "
            "deleted: PRUNERY_KEEP_DAYS)"
        )
    return space


def is_full(error: OSError) -> bool:
    """Whether the system says that a disk, or somebody's share of it, is full."""
    return error.errno in _FULL


def in_words(size: int) -> str:
    """A size for people."""
    for unit, power in (("GB", 3), ("MB", 2), ("kB", 1)):
        if size >= 1000**power:
            return f"{size / 1000**power:.1f} {unit}"
    return f"{size} bytes"
