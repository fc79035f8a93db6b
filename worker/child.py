"""One child process: started apart, read without trusting it, ended with all that it started."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from typing import IO

from jobs.process import ended
from jobs.sandbox.cell import Cell
from jobs.sandbox.watch import EVERY, Watch
from worker.memory import peak_of

log = logging.getLogger(__name__)
_MEASURE_EVERY = 1.0
_LOGGED_LINES = 200  # of one child: what a stranger's model makes it say must not fill the log
_LOGGED_BYTES = 1000
LONGEST_LINE = 64 * 1024
_TAIL = 4096
_READ = 65_536
_FLED = 2.0
_WAITING_LINES = 256  # then the child waits until the worker has caught up


class Child:
    """A running command in its own session (so its own process group). Made in the thread that outlives it.

    Args:
        cell: what to run, and in what. It is ended when all its processes together exceed its limits.
        environment: all of its environment.
    """

    def __init__(self, cell: Cell, environment: Mapping[str, str]) -> None:
        self._cell = cell
        self._limits = Watch(cell.folder, cell.limits)
        self._process = subprocess.Popen(
            cell.command,
            cwd=cell.folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            preexec_fn=cell.preexec_fn,
        )
        self._lines: queue.Queue[bytes | None] = queue.Queue(_WAITING_LINES)
        self._tail = b""
        self._unread = threading.Event()
        self._peak = 0
        self._next_measure = 0.0
        self._ended = threading.Event()
        self._ended_at: float | None = None
        self._readers = [
            threading.Thread(target=self._read_lines, args=(self._process.stdout,), daemon=True),
            threading.Thread(
                # In the context of whoever starts it: what the child says is logged as about the same job.
                target=contextvars.copy_context().run,
                args=(self._read_tail, self._process.stderr),
                daemon=True,
            ),
        ]
        self._exceeded: str | None = None
        watcher = threading.Thread(target=self._watch, daemon=True)
        for thread in (*self._readers, watcher):
            thread.start()

    @property
    def pid(self) -> int:
        """Its process id, which is also its group's."""
        return self._process.pid

    def line(self, seconds: float) -> bytes | None:
        """The next line of its standard output; None when none came within `seconds`."""
        try:
            return self._lines.get(timeout=seconds) if seconds > 0 else self._lines.get_nowait()
        except queue.Empty:
            return None

    @property
    def peak_bytes(self) -> int:
        """Most resident memory that it and what it started were seen to have had; 0: never measured."""
        return self._peak

    def measure(self) -> None:
        """Look at its memory, if that was not done lately."""
        if time.monotonic() >= self._next_measure:
            self._next_measure = time.monotonic() + _MEASURE_EVERY
            self._peak = max(self._peak, peak_of(self._process.pid))

    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        found = self._process.poll()
        return None if found is None else self._cell.status(found)

    def last_words(self) -> str:
        """The last line of its standard error, at most 300 characters; "" when it said nothing."""
        lines = [line.strip() for line in self._tail.decode(errors="replace").splitlines() if line.strip()]
        return lines[-1][-300:] if lines else ""

    def errors(self) -> str:
        """The last 4 kB of its standard error, for the log."""
        return self._tail.decode(errors="replace")

    def drained(self) -> bool:
        """Whether all its lines have been read, now that it has ended.

        A process that fled into another session may hold the pipe open: after two seconds nobody waits for
        it.
        """
        if self._ended_at is None:
            self._ended_at = time.monotonic()
            self._signal(signal.SIGKILL)  # what it started and left behind
        if time.monotonic() - self._ended_at > _FLED:
            return True
        return not any(reader.is_alive() for reader in self._readers) and self._lines.empty()

    def ask_to_stop(self) -> None:
        """Send SIGTERM to its group; what it still says is read."""
        self._signal(signal.SIGTERM)

    def end(self, grace: float) -> None:
        """End it and its whole group: SIGTERM, and SIGKILL to what is left after `grace` seconds.

        Returns when the child is gone. Lines that were not read are lost.
        """
        self._unread.set()
        if self._process.poll() is None and grace > 0:
            self._signal(signal.SIGTERM)
            until = time.monotonic() + grace
            while self._process.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._ended.set()
        for reader in self._readers:
            reader.join(_FLED)

    def exceeded(self) -> str | None:
        """Which limit of all its processes together it was ended for, in words."""
        return self._exceeded

    def crash_reason(self) -> str:
        """Why it ended, in words, from its exit status."""
        if self._exceeded is not None:
            return f"it was ended: {self._exceeded}"
        status = self.status()
        words = f"; its last words: {said}" if (said := self.last_words()) else ""
        if status is None:
            return f"it still runs{words}"
        return f"{ended(status)}{words}"

    def _signal(self, number: signal.Signals) -> None:
        # The group lives as long as any of its processes does, also when the child itself is gone.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _watch(self) -> None:
        while not self._ended.wait(EVERY):
            if (exceeded := self._limits.exceeded(self.pid)) is not None:
                self._exceeded = exceeded
                self._signal(signal.SIGKILL)
                return

    def _read_lines(self, pipe: IO[bytes]) -> None:
        """Cut the output into lines; a line that is too long is left out."""
        kept, skipping = b"", False
        while chunk := _read(pipe):
            *lines, rest = (kept + chunk).split(b"\n")
            for line in lines:
                if not skipping and len(line) <= LONGEST_LINE:
                    self._put(line)
                skipping = False
            skipping = skipping or len(rest) > LONGEST_LINE
            kept = b"" if skipping else rest
        if kept:
            self._put(kept)

    def _put(self, line: bytes) -> None:
        while not self._unread.is_set():
            with contextlib.suppress(queue.Full):
                self._lines.put(line, timeout=0.2)
                return

    def _read_tail(self, pipe: IO[bytes]) -> None:
        rest, left = b"", _LOGGED_LINES
        while chunk := _read(pipe):
            self._tail = (self._tail + chunk)[-_TAIL:]
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[-_TAIL:]
            for line in lines[:left]:
                _log(line)
            left = max(0, left - len(lines))
        if left:
            _log(rest)


def _log(line: bytes) -> None:
    """Log a line that a child wrote to its standard error."""
    if said := line[:_LOGGED_BYTES].decode(errors="replace").strip():
        log.info("child: %s", said)


def _read(pipe: IO[bytes]) -> bytes:
    try:
        return pipe.read(_READ) or b""
    except (OSError, ValueError):
        return b""
