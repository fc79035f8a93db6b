"""The way without namespaces: Landlock for files, a seccomp filter for everything that Landlock leaves open.

It needs no privilege at all, so it works where Docker's own profile refuses namespaces.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jobs.errors import SandboxUnavailableError
from jobs.process import die_with_parent
from jobs.sandbox import landlock, policy, users, view
from jobs.sandbox.cell import Cell, Wish, stage_command, stage_settings

# What libraries ask the kernel about the machine; nothing about its other processes.
_PROC = (
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version"),
    *("/proc/sys/vm", "/proc/sys/kernel", "/proc/driver/nvidia", "/proc/driver/nvidia-uvm"),
)


def cell(wish: Wish, version: int | None = None) -> Cell:
    """The wish as a command of the stage, which gives up the rest by itself.

    Args:
        wish: `loopback` cannot be had: Landlock knows ports, not addresses.
        version: of Landlock; default: the kernel's.

    Raises:
        SandboxUnavailableError: the network that is wished for cannot be had.
    """
    if wish.network == "loopback":
        raise SandboxUnavailableError(
            "several processes that train together need a network of their own, which the sandbox of this "
            "worker (Landlock) cannot give: install bubblewrap and allow user namespaces, or ask for gpus=1"
        )
    chosen = landlock.version() if version is None else version
    gpu = view.gpu_devices()
    uid = _nobody(wish)
    if uid is not None:
        users.give(wish.folder, uid)
    limits = wish.limits.of_each_process(0 if uid is not None else users.running())
    settings = stage_settings(
        limits,
        policy.beside_landlock(chosen, wish.network, gpu=bool(gpu)),
        folder=str(wish.folder),
        uid=uid,
        keep=True,
        landlock=chosen,
        rules=_rules(wish),
        tcp=wish.network == "open",
    )
    return Cell(stage_command(settings, wish.command), wish.folder, wish.limits, die_with_parent())


def _rules(wish: Wish) -> list[tuple[str, int]]:
    seen = view.machine(network=wish.network == "open")
    rules = [(path, landlock.RUN) for path in (*seen.readable, *view.named_in(wish.command, seen))]
    rules += [(path, landlock.READ) for path in (*_PROC, *map(str, wish.readable))]
    rules += [(path, landlock.DEVICE) for path in seen.devices]
    if view.gpu_devices() and wish.network != "open":
        # CUDA names its threads there, and does not start without; a process learns nothing of others by it.
        rules.append(("/proc/self", landlock.EDIT))
    return [*rules, *((str(path), landlock.WRITE) for path in wish.own)]


def _nobody(wish: Wish) -> int | None:
    """A user of its own where root can give one away and that user could still get to its files."""
    needed = (wish.folder, Path(sys.executable), Path(__file__))
    return None if wish.writable or not all(map(users.reachable, needed)) else users.nobody()
