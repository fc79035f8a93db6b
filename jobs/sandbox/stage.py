"""The last step before a stranger's model: gives up all that it does not need, and becomes the command.

`python -I -S stage.py SETTINGS COMMAND...`, SETTINGS a JSON object (`Stage`). What it is run by has made the
namespaces, where there are any. Where there are none it stays as the command's keeper: when whoever started
it is gone, it ends the whole process group, which nothing inside can leave.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Sequence
from typing import TypedDict

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120

from jobs.sandbox import landlock

OWN_PID = 0x7E57A1D5
"""Stands in a filter for the id of the process that installs it."""
REFUSED = 112
"""The exit status when something that was asked for cannot be given up: nothing was run."""
_PDEATHSIG, _NO_NEW_PRIVS, _SECCOMP, _FILTER, _CAP_AMBIENT, _CLEAR_ALL = 1, 38, 22, 2, 47, 4
_CAPSET, _CAP_VERSION = {"x86_64": 126, "aarch64": 91}, 0x20080522
_WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Stage(TypedDict):
    """What to give up.

    `limits`: RLIMIT_*, soft and hard limit. `folder`: where to go. `uid`: whom to become; None: nobody
    else. `filter`: the seccomp program in base64. `keep`: stay as the keeper. `landlock`: the version to
    use, 0 for none, with `rules` and `tcp` as `landlock.restrict` has them.
    """

    limits: list[tuple[int, int, int]]
    folder: str
    uid: int | None
    filter: str
    keep: bool
    landlock: int
    rules: list[tuple[str, int]]
    tcp: bool


def main(arguments: Sequence[str]) -> None:
    """Give up what `arguments[0]` says and run the rest."""
    stage: Stage = json.loads(arguments[0])
    if stage["keep"]:
        _keep(os.getppid())
    try:
        _confine(stage)
    except OSError as error:
        sys.stderr.write(f"the sandbox cannot be entered: {error}\n")
        os._exit(REFUSED)
    command = list(arguments[1:])
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell, on purpose
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        os._exit(127)


def _confine(stage: Stage) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for kind, soft, hard in stage["limits"]:
        resource.setrlimit(kind, (soft, hard))
    _check(libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
    if (uid := stage["uid"]) is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _drop_capabilities(libc)
    os.chdir(stage["folder"])
    if stage["landlock"]:
        landlock.restrict(stage["rules"], stage["landlock"], tcp=stage["tcp"])
    for number in (*_WATCHED, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    own = struct.pack("<I", os.getpid())
    _install(libc, base64.b64decode(stage["filter"]).replace(struct.pack("<I", OWN_PID), own))


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """None is left, and none comes back: that is what "no new privileges" says of an exec."""
    libc.prctl(_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAP_VERSION, 0)
    _check(libc.syscall(ctypes.c_long(_CAPSET[os.uname().machine]), header, (ctypes.c_uint32 * 6)()))


def _install(libc: ctypes.CDLL, program: bytes) -> None:
    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.c_char_p))

    _check(libc.prctl(_SECCOMP, _FILTER, ctypes.byref(Program(len(program) // 8, program)), 0, 0))


def _check(result: int) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _keep(parent: int) -> None:
    """Return in a new process; in this one, wait for it, and end as it ended."""
    libc = ctypes.CDLL(None, use_errno=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    libc.prctl(_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    kept = os.fork()
    if kept == 0:
        return
    while True:
        if os.getppid() != parent:
            os.killpg(0, signal.SIGKILL)
        number = signal.sigwait(_WATCHED)  # a SIGTERM of our own is for the command, which has got it as well
        if number != signal.SIGCHLD:
            continue
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == kept:
                _end_as(ended[1])


def _end_as(status: int) -> None:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


if __name__ == "__main__":
    main(sys.argv[1:])
