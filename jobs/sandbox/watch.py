"""What no limit of a single process holds: the memory, the files and the number of all of them together.

Asked once or twice a second by whoever started them, who ends them when something is exceeded.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from jobs.sandbox.limits import Limits

EVERY: Final = 1.0
"""Seconds between two looks."""
MOST_FILES: Final = 200_000
_BLOCK: Final = 512
_LEAST: Final = 4096  # what an empty file or a folder costs all the same
_MEMORY = ("RssAnon:", "RssShmem:", "VmSwap:")


class Watch:
    """Over a process, all that descend from it, and the folder that they write. Made before they start."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._given = _size(folder, MOST_FILES)[0]

    def exceeded(self, pid: int) -> str | None:
        """Which limit `pid` and its descendants are over, in words; None: none."""
        limits, pids = self._limits, _family(pid)
        if len(pids) > limits.processes:
            return f"it had more than {limits.processes:,} processes"
        if sum(map(_memory, pids)) > limits.memory_bytes:
            return f"it used more than the {limits.memory_bytes:,} bytes of memory that it may have"
        written, files = _size(self._folder, MOST_FILES)
        written += sum(_unlinked(pids))
        if files >= MOST_FILES:
            return f"it wrote more than {MOST_FILES:,} files"
        if written - self._given > limits.disk_bytes:
            return f"it wrote more than the {limits.disk_bytes:,} bytes that it may write"
        return None


def _family(pid: int) -> list[int]:
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    return [pid, *(child.pid for child in children)]


def _memory(pid: int) -> int:
    """Of its own, and what it shares with others that is no file."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(_MEMORY))


def _size(folder: Path, most: int) -> tuple[int, int]:
    """The bytes that all in a folder takes on the disk, and of how many files and folders, at most `most`."""
    size = files = 0
    for entry in _entries(folder):
        files += 1
        if files >= most:
            break
        with contextlib.suppress(OSError):
            size += max(_LEAST, entry.stat(follow_symlinks=False).st_blocks * _BLOCK)
    return size, files


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    waiting = [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    yield entry
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue


def _unlinked(pids: list[int]) -> Iterator[int]:
    """The sizes of files that have no name any more, and are open still; each once."""
    seen: set[tuple[int, int]] = set()
    for pid in pids:
        with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as handles:
            for handle in handles:
                try:
                    found = handle.stat()
                except OSError:
                    continue
                key = (found.st_dev, found.st_ino)
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 0 and key not in seen:
                    seen.add(key)
                    yield found.st_blocks * _BLOCK
