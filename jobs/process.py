"""Processes that end with the one that started them, whatever ends it; and why one has ended, in words."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

_PR_SET_PDEATHSIG = 1
_CPU_GRACE = 5  # seconds
_REASONS = {
    signal.SIGKILL: "it was killed, probably because it ran out of memory",
    signal.SIGSEGV: "native code crashed",
    signal.SIGABRT: "native code gave up",
    signal.SIGBUS: "native code crashed, or a disk is full",
    signal.SIGILL: "native code uses instructions that this processor lacks",
    signal.SIGFPE: "native code crashed in arithmetic",
    signal.SIGTERM: "somebody ended it",
    signal.SIGXCPU: "it used up its processor time",
}


def die_with_parent(
    limits: Mapping[int, int] | None = None, ignore: Sequence[signal.Signals] = ()
) -> Callable[[], None] | None:
    """A `preexec_fn` that has the kernel send SIGKILL to the new process when the starting thread ends.

    It survives `exec` and needs nobody who watches, so `kill -9` of the parent leaves nothing behind.
    Linux only; elsewhere None, and only an orderly end of the parent ends the child.

    Args:
        limits: what the new process may use at most, by `resource.RLIMIT_*`.
        ignore: signals that the new process ignores until it says otherwise.
    """
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)  # looked up before the fork: the child must not allocate much
    parent = os.getpid()
    chosen = {kind: limit(kind, most) for kind, most in (limits or {}).items()}

    def arrange() -> None:
        for number in ignore:
            signal.signal(number, signal.SIG_IGN)
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended in between
            os._exit(1)
        for kind, limit in chosen.items():
            resource.setrlimit(kind, limit)

    return arrange


def limit(kind: int, most: int) -> tuple[int, int]:
    """The soft and the hard limit, not above those that we are under ourselves.

    Processor time has a later hard limit: at the soft one the process ends by SIGXCPU, which says why, and at
    the hard one by SIGKILL, as for want of memory.
    """
    ours = resource.getrlimit(kind)[1]
    later = most + _CPU_GRACE if kind == resource.RLIMIT_CPU else most
    soft, hard = (size if ours == resource.RLIM_INFINITY else min(size, ours) for size in (most, later))
    return soft, hard


def ended(status: int) -> str:
    """Why a process ended, in words, from its exit status; negative for a signal."""
    if status >= 0:
        return f"it ended with exit status {status} and without a result"
    try:
        number = signal.Signals(-status)
    except ValueError:
        return f"it was ended by signal {-status}"
    return f"it was ended by {number.name}: {_REASONS.get(number, 'nobody expected that')}"
