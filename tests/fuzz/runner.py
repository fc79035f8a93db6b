"""Files by the thousand through `examine`, in processes forked from this one, which has everything imported.

A fork takes milliseconds where starting Python and torch takes seconds. Each has the limits of a child
(memory, processor time, size of files) and works off a batch; what ends it, or stays longer than it may, is
noted with the seed that makes the file again.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import select
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.docs.pages import DOCS
from tests.fuzz.corpus import corpus
from tests.fuzz.examine import ACCEPTED, examine
from tests.fuzz.mutations import mutated

LIMIT = 30.0  # seconds that a file may take
_MEMORY = 4 << 30
_BATCH = 50
Task = tuple[str, int]


@dataclass(frozen=True)
class Outcome:
    """What became of a file: accepted, a code, or `crash: ...`, `bug: ...`, `hang`."""

    kind: str
    seed: int
    said: str
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether the child would have told of a bug, or nothing at all."""
        return self.said != ACCEPTED and self.said not in documented()


def documented() -> frozenset[str]:
    """The codes of docs/errors.md that a file may be refused with."""
    lines = (DOCS / "errors.md").read_text(encoding="utf-8").splitlines()
    return frozenset(line.split("`")[1] for line in lines if line.startswith("| `")) - {"internal_error"}


def file_of(kind: str, seed: int) -> bytes:
    """The file that a seed makes."""
    dice = random.Random(f"{kind}-{seed}")
    return mutated(kind, dice.choice(corpus()[kind]), dice)


def run(tasks: Sequence[Task]) -> Iterator[Outcome]:
    """The outcome of every task, in order."""
    corpus()
    torch.set_num_threads(1)
    waiting = list(tasks)
    while waiting:
        done = 0
        for outcome in _batch(waiting[:_BATCH]):
            yield outcome
            done += 1
        waiting = waiting[done:]


def _batch(tasks: Sequence[Task]) -> Iterator[Outcome]:
    """The outcomes of the first tasks; the last of them may be why there are no more."""
    here, there = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(here)
        _work(tasks, there)
    os.close(there)
    began, place, held = time.monotonic(), 0, b""
    try:
        while place < len(tasks):
            ready, _, _ = select.select([here], [], [], max(LIMIT - (time.monotonic() - began), 0))
            if not ready:
                yield Outcome(*tasks[place], "hang", LIMIT)
                return
            piece = os.read(here, 65_536)
            held += piece
            *lines, held = held.split(b"\n")
            for line in lines:
                said = json.loads(line)
                yield Outcome(*tasks[place], said["said"], said["seconds"])
                place, began = place + 1, time.monotonic()
            if not piece:
                break
        if place < len(tasks):
            _, status = os.waitpid(pid, 0)
            pid = 0
            yield Outcome(*tasks[place], f"crash: {_ended(status)}", time.monotonic() - began)
    finally:
        os.close(here)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _ended(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit status {os.WEXITSTATUS(status)}"


def _work(tasks: Sequence[Task], pipe: int) -> None:
    """In the fork: every task, each with a line; never returns."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    limits = {resource.RLIMIT_DATA: _MEMORY, resource.RLIMIT_FSIZE: 1 << 30, resource.RLIMIT_CORE: 0,
              resource.RLIMIT_CPU: int(LIMIT) * len(tasks)}  # fmt: skip
    for kind, most in limits.items():
        resource.setrlimit(kind, (most, most))
    with tempfile.TemporaryDirectory(prefix="prunery-fuzz-") as folder:
        for kind, seed in tasks:
            began = time.monotonic()
            try:
                said = examine(kind, file_of(kind, seed), seed, Path(folder))
            except BaseException as error:  # noqa: BLE001  a panic of native code is no Exception
                last = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(last.filename).name}:{last.lineno}"
                said = f"bug: {type(error).__name__} at {where}: {str(error)[:200]}"
            line = json.dumps({"said": said, "seconds": time.monotonic() - began})
            os.write(pipe, line.encode() + b"\n")
    os._exit(0)
