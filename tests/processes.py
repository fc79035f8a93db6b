"""Which processes run for a folder: inside a sandbox they know another id than outside."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil


def running_for(folder: Path) -> list[int]:
    """The ids of the processes whose command names `folder`, or something in it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and str(folder) in " ".join(process.cmdline()):
                found.append(process.pid)
    return found


def program_of(folder: Path) -> int:
    """The one process that works for `folder`, without those that confine it."""
    programs = []
    for pid in running_for(folder):
        with contextlib.suppress(psutil.Error):
            command = psutil.Process(pid).cmdline()
            if "bwrap" not in command[0] and not any(part.endswith("stage.py") for part in command):
                programs.append(pid)
    [found] = programs
    return found
