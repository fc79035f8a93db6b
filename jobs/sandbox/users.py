"""Root gives every child a user of its own, whom nothing on the machine belongs to."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import psutil

_FIRST, _LAST = 0x7000_0000, 0x7FFF_FFFD  # beyond what distributions and containers give out
_NOBODY = 65_534


def nobody() -> int | None:
    """A user id that nobody has; None where we may not become somebody else."""
    if os.geteuid() != 0 or not _may_change_users():
        return None
    chosen = _FIRST + secrets.randbelow(_LAST - _FIRST)
    return next((uid for uid in (chosen, _NOBODY) if _exists(uid)), None)


def reachable(path: Path) -> bool:
    """Whether somebody to whom nothing belongs could get to `path`."""
    return all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents)


def give(folder: Path, uid: int) -> None:
    """Make `folder` and all that lies in it `uid`'s; links are not followed."""
    os.chown(folder, uid, uid, follow_symlinks=False)
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(root, name), uid, uid, follow_symlinks=False)


def running() -> int:
    """Processes and threads of our own user: they count where a limit is one of the user."""
    here, count = os.getuid(), 0
    for process in psutil.process_iter():
        try:
            if process.uids().real == here:
                count += process.num_threads()
        except psutil.Error:
            continue
    return count


def _may_change_users() -> bool:
    effective = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff")
    )
    wanted = 1 << 0 | 1 << 6 | 1 << 7  # CAP_CHOWN, CAP_SETGID, CAP_SETUID
    return int(effective.split()[1], 16) & wanted == wanted


def _exists(uid: int) -> bool:
    """Whether our user namespace has this id, as user and as group."""
    return all(_mapped(uid, Path(f"/proc/self/{kind}_map")) for kind in ("uid", "gid"))


def _mapped(identity: int, table: Path) -> bool:
    ranges = (map(int, line.split()) for line in table.read_text().splitlines())
    return any(first <= identity < first + count for first, _, count in ranges)
