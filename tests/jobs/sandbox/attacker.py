"""Small hostile programs, started as a worker starts its child; what they print is what they got."""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.sandbox import beside, bubblewrap, choice, landlock
from jobs.sandbox.cell import Cell, Wish
from jobs.sandbox.limits import Limits
from worker.child import Child

PRELUDE = """
import ctypes, errno, os, resource, signal, socket, stat, subprocess, sys, time
from pathlib import Path
folder = Path(sys.argv[-1])
libc = ctypes.CDLL(None, use_errno=True)

def attempt(name, act):
    try:
        got = act()
    except BaseException as error:
        print(f"{name}: refused {type(error).__name__} {error}", flush=True)
    else:
        print(f"{name}: GOT {got!r}", flush=True)

def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
"""
ORDINARY = Limits(memory_bytes=2 * 1024**3, disk_bytes=64 * 1024**2, processes=64)


@dataclass(frozen=True)
class Way:
    """A sandbox under test: as it is chosen, or Landlock as an older kernel has it."""

    name: str
    version: int | None = None

    def cell(self, wish: Wish) -> Cell:
        return bubblewrap.cell(wish) if self.name == "bubblewrap" else beside.cell(wish, self.version)

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}-{self.version}"


WAYS = (Way("bubblewrap"), Way("landlock"), Way("landlock", 1))
every_way = pytest.mark.parametrize("way", WAYS, ids=str)


def skip_unless_here(way: Way) -> None:
    """Skip what this machine cannot show; in CI both ways are there, or the first at the very least."""
    reason = choice._wrong_with("bubblewrap" if way.name == "bubblewrap" else "landlock")
    if reason is None and way.version is not None and way.version > landlock.version():
        reason = "the kernel's Landlock is older"
    if reason is not None and way.name == "bubblewrap" and os.environ.get("CI"):
        pytest.fail(f"{way}: {reason}")
    if reason is not None:
        pytest.skip(f"{way}: {reason}")


@dataclass(frozen=True)
class Outcome:
    """What a program said, how it ended, and why in words."""

    lines: list[str]
    status: int
    reason: str
    errors: str

    def of(self, name: str) -> str:
        return next(line.partition(": ")[2] for line in self.lines if line.startswith(f"{name}: "))


def job_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch" / "worker" / "job"
    for made in (folder, folder / "tmp", folder / "out"):
        made.mkdir(parents=True, exist_ok=True)
    return folder


def wish(tmp_path: Path, body: str, limits: Limits = ORDINARY) -> Wish:
    program = tmp_path / "attack.py"
    program.write_text(PRELUDE + body)
    folder = job_folder(tmp_path)
    return Wish([sys.executable, str(program), str(folder)], folder, limits)


def start(way: Way, tmp_path: Path, body: str, limits: Limits = ORDINARY) -> Child:
    cell = way.cell(wish(tmp_path, body, limits))
    folder = cell.folder
    return Child(
        cell, {"PATH": os.environ["PATH"], "HOME": str(folder / "tmp"), "TMPDIR": str(folder / "tmp")}
    )


def finish(child: Child, seconds: float = 60.0) -> Outcome:
    lines: list[str] = []
    until = time.monotonic() + seconds
    try:
        while not (child.status() is not None and child.drained()):
            assert time.monotonic() < until, f"it did not end: {lines} {child.errors()}"
            if (line := child.line(0.05)) is not None:
                lines.append(line.decode(errors="replace"))
    finally:
        child.end(0)
    status = child.status()
    assert status is not None
    return Outcome(lines, status, child.crash_reason(), child.errors())


def attack(way: Way, tmp_path: Path, body: str, limits: Limits = ORDINARY) -> Outcome:
    """Run a program to its end."""
    return finish(start(way, tmp_path, body, limits))


class Listener:
    """A service on this machine that notes whoever connects."""

    def __init__(self, socket_: object) -> None:
        self.visits = 0
        self._socket = socket_
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                self._socket.accept()  # type: ignore[attr-defined]
            except OSError:
                return
            self.visits += 1
