"""How many processors this process may use, by the strictest limit that it is under. Light.

A container that may use two of sixty-four processors still sees all of them, and so do the libraries that
start a thread for each. Threads that have no processor wait for each other after every operation.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_PATIENCE = {"GOMP_SPINCOUNT": "1000"}
"""How often a thread of GNU's OpenMP looks for work before it sleeps.

By itself it looks for milliseconds, which are lost to the one that it waits for where that has no processor:
two trainings of small convolutions side by side took 0.75 to 1.8 s a step instead of 0.29; alone it makes no
difference that could be told from noise.
"""


def processors(groups: Path = _GROUPS, own: Path = _OWN) -> int:
    """As many as the affinity names, or fewer where the control group's quota is worth less; rounded up.

    Args:
        groups: where control groups are mounted.
        own: the file that says which ones this process is in.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    there = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, min([there, *map(math.ceil, _quotas(groups, own))]))


def fewer_than_there_are() -> int | None:
    """The processors that may be used where the machine has more; None: all of them."""
    usable = processors()
    return usable if usable < (os.cpu_count() or 1) else None


def threads_asked_for() -> int | None:
    """Threads for a library that looks at neither the environment nor a quota; None: it chooses."""
    asked = os.environ.get(_THREADS[0], "")
    return int(asked) if asked.isdecimal() and int(asked) > 0 else fewer_than_there_are()


def for_libraries(threads: int | None) -> dict[str, str]:
    """Environment for a process that will load torch.

    Args:
        threads: for its arithmetic; None: the libraries choose.
    """
    return _PATIENCE if threads is None else _PATIENCE | dict.fromkeys(_THREADS, str(threads))


def prepare_libraries(environment: MutableMapping[str, str]) -> None:
    """Tell libraries that are not loaded yet of all this, where nobody has said otherwise."""
    for name, value in for_libraries(fewer_than_there_are()).items():
        environment.setdefault(name, value)


def _quotas(groups: Path, own: Path) -> Iterator[float]:
    """Those of this process's control groups and of all above them, in processors."""
    for folder in _folders(groups, own):
        with contextlib.suppress(OSError, ValueError):  # "max": there is none
            quota, period = (folder / "cpu.max").read_text().split()
            yield int(quota) / int(period)
        with contextlib.suppress(OSError, ValueError):
            allowed = int((folder / "cpu.cfs_quota_us").read_text())
            if allowed > 0:  # -1: there is none
                yield allowed / int((folder / "cpu.cfs_period_us").read_text())


def _folders(groups: Path, own: Path) -> Iterator[Path]:
    """Of both versions of control groups; a container sees its own group as the root."""
    roots = {"": groups, "cpu": groups / "cpu", "cpu,cpuacct": groups / "cpu,cpuacct"}
    yield from roots.values()
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in roots:
            folder = roots[controllers] / path.lstrip("/")
            yield from (above for above in (folder, *folder.parents) if roots[controllers] in above.parents)
