"""How much memory this process may use, by the strictest limit that it is under. Light."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

import psutil

_GROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_NO_MEMORY = ("can't allocate memory", "out of memory", "bad allocation", "bad_alloc", "failed to allocate")


def memory_limit() -> int:
    """Bytes: the machine's memory, or less where the process or its control group is limited."""
    limits = [psutil.virtual_memory().total]
    for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS):
        soft = resource.getrlimit(kind)[0]
        if soft != resource.RLIM_INFINITY:
            limits.append(soft)
    for file in _GROUPS:
        with contextlib.suppress(OSError, ValueError):  # "max": there is none
            limits.append(int(file.read_text()))
    return min(limits)


def is_out_of_memory(error: BaseException) -> bool:
    """Python and numpy say it with their class, native code with words."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(word in said for word in _NO_MEMORY)
