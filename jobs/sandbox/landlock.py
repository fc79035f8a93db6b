"""Landlock: a process gives up, for itself and all that it starts, every file but those that it names.

https://docs.kernel.org/userspace-api/landlock.html. Linux 5.13 and newer, without privileges; the kernel
says which version it has. Standard library alone: this is imported at every start of a child.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

CREATE, ADD, RESTRICT = 444, 445, 446  # the same numbers on every architecture
_VERSION = 1  # flag of landlock_create_ruleset
_BENEATH = 1  # LANDLOCK_RULE_PATH_BENEATH
_O_PATH = 0o10000000

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(6))
_MAKE_CHAR, _MAKE_DIR, _MAKE_REG, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK, _MAKE_SYM = (
    1 << bit for bit in range(6, 13)
)
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_KNOWN = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many file rights each version knows
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

READ = _READ_FILE | _READ_DIR
RUN = READ | _EXECUTE
DEVICE = _READ_FILE | _WRITE_FILE | _IOCTL_DEV
WRITE = (
    READ
    | _WRITE_FILE
    | _TRUNCATE
    | _REFER
    | _REMOVE_DIR
    | _REMOVE_FILE
    | _MAKE_DIR
    | _MAKE_REG
    | _MAKE_FIFO
    | _MAKE_SYM
)
EDIT = READ | _WRITE_FILE | _TRUNCATE
TCP = 3  # bind and connect
SCOPES = 3  # abstract sockets and signals


def version() -> int:
    """Which version of Landlock the kernel has; 0: none, or it is switched off."""
    try:
        return int(_call(CREATE, None, 0, _VERSION))
    except OSError:
        return 0


def restrict(rules: Iterable[tuple[str, int]], newest: int, *, tcp: bool) -> None:
    """Give up, for good, every file that is not below a path of `rules`, with the rights named there.

    Paths that do not exist are left out. The caller has set "no new privileges" and has one thread.

    Args:
        rules: paths with `READ`, `RUN`, `EDIT`, `WRITE` or `DEVICE`.
        newest: the version to use, at most `version()`.
        tcp: whether TCP stays allowed.

    Raises:
        OSError: the kernel refuses.
    """
    files = (1 << _KNOWN.get(newest, _KNOWN[max(_KNOWN)])) - 1
    attributes = struct.pack("<QQQ", files, 0 if tcp or newest < 4 else TCP, SCOPES if newest >= 6 else 0)
    size = 24 if newest >= 6 else 16 if newest >= 4 else 8
    ruleset = int(_call(CREATE, attributes[:size], size, 0))
    try:
        for path, rights in rules:
            _allow(ruleset, path, rights & files)
        _call(RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, _O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _OF_FILES
        _call(ADD, ruleset, _BENEATH, struct.pack("<Qi", rights, place), 0)
    finally:
        os.close(place)


def _call(number: int, *arguments: int | bytes | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    given = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = int(libc.syscall(ctypes.c_long(number), *given))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
