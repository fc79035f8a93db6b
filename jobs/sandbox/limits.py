"""What a child may take at most: each process by the kernel, all together by `jobs.sandbox.watch`."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobs.settings import Settings

OPEN_FILES: Final = 4096
_LATER = 1800  # seconds beyond a job's own limit, on every processor
_SHARE = 0.9  # of the memory there is, where nothing is set
_INSPECTION_DISK = 4  # times the largest model: the model, what it unpacks to, what it is converted to
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Limits:
    """The most that one child may take.

    Args:
        memory_bytes: of all its processes together; no process of it gets more either.
        disk_bytes: written into its folder, besides what lay there; no file of it gets larger either.
        processes: and threads.
        cpu_seconds: of each process; None: as many as it takes.
    """

    memory_bytes: int
    disk_bytes: int
    processes: int
    cpu_seconds: int | None = None

    def of_each_process(self, running: int = 0) -> dict[int, int]:
        """By RLIMIT_*; `running`: processes that count as its own and are none of it."""
        limits = {
            resource.RLIMIT_DATA: self.memory_bytes,
            resource.RLIMIT_FSIZE: self.disk_bytes,
            resource.RLIMIT_NPROC: self.processes + running,
            resource.RLIMIT_NOFILE: OPEN_FILES,
            resource.RLIMIT_CORE: 0,
        }
        return limits if self.cpu_seconds is None else limits | {resource.RLIMIT_CPU: self.cpu_seconds}


def of_job(settings: Settings, max_minutes: float | None = None) -> Limits:
    """What a job may take; processor time where it says how long it may last, and then generously."""
    seconds = None if max_minutes is None else int((60 * max_minutes + _LATER) * (os.cpu_count() or 1))
    return Limits(
        memory_bytes=settings.job_memory_bytes or int(memory_here() * _SHARE),
        disk_bytes=settings.job_disk_bytes,
        processes=settings.job_processes or processes_here(),
        cpu_seconds=seconds,
    )


def of_inspection(settings: Settings, cpu_seconds: int) -> Limits:
    """What looking through a model may take."""
    return Limits(
        memory_bytes=settings.inspect_memory_bytes,
        disk_bytes=_INSPECTION_DISK * settings.max_model_bytes,
        processes=settings.job_processes or processes_here(),
        cpu_seconds=cpu_seconds,
    )


def processes_here() -> int:
    """Enough for the threads that libraries start for every processor, several times over."""
    return 512 + 16 * (os.cpu_count() or 1)


def memory_here() -> int:
    """The memory of this machine, or of the container that we are in."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _MEMORY_LIMITS:
        try:
            found.append(int(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return min(found)
