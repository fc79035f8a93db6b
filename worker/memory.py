"""How much memory a process and its descendants have had at most, as the kernel remembers it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil


def peak_of(pid: int) -> int:
    """The sum of their largest resident sets, in bytes; 0 where the system does not tell, or it is gone."""
    peak = 0
    with contextlib.suppress(psutil.Error, OSError):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            peak += _peak(process.pid)
    return peak


def _peak(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
