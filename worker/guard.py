"""The process that holds a child to its worker's lease: `python guard.py GROUP DEADLINE`. Stands alone.

Nobody may work on a job whose lease has run out, for another worker may have it. A worker that is stopped or
cut off cannot see to that itself, so this little process does, and the child's process group with it:

- it is told every new end of the lease as a line on standard input, on the clock that all processes share;
- when that has come, the group is frozen (SIGSTOP), and thawed when a later end is told;
- when the worker has gone without a word (end of input), the group is killed; the line "." lets it be.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time


def signal_group(group: int, number: int) -> None:
    """Send a signal to every process of the group; there may be none left."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def watch(group: int, deadline: float) -> None:
    """Freeze, thaw or kill the group as standard input says."""
    unread, frozen = b"", False
    while True:
        left = None if frozen else max(0.0, deadline - time.monotonic())
        if not select.select([0], [], [], left)[0]:
            signal_group(group, signal.SIGSTOP)
            frozen = True
            continue
        said = os.read(0, 4096)
        if not said:
            signal_group(group, signal.SIGKILL)
            return
        *lines, unread = (unread + said).split(b"\n")
        if b"." in lines:
            return
        deadline = max([deadline, *map(float, lines)])
        if frozen and deadline > time.monotonic():
            signal_group(group, signal.SIGCONT)
            frozen = False


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    watch(int(sys.argv[1]), float(sys.argv[2]))
