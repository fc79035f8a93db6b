"""The parts of `prunery up`: one process each, told to stop politely and then less so."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.process import die_with_parent


@dataclass(frozen=True)
class Part:
    """A running part. `patience`: seconds it may take to stop."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    patience: float

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if self.process.poll() is None:
            self.process.terminate()

    def stop(self) -> None:
        """Wait until it has stopped; kill it and its group when it takes too long."""
        until = time.monotonic() + self.patience
        while self.process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def obituary(self) -> str:
        """How it ended, in words."""
        status = self.process.returncode
        how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
        return f"{self.name} ended ({how}): {last_line(self.log)} (its log is {self.log})"


def start_part(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    patience: float,
    keep_open: Sequence[int] = (),
) -> Part:
    """Start a part in its own session, so that Ctrl-C reaches only us; it dies with us whatever ends us.

    The log of the time before, which may say why the part ended, stays beside it as `NAME.log.1`.
    """
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=keep_open,
            preexec_fn=die_with_parent(),
        )
    return Part(name, process, log, patience)


def last_line(log: Path) -> str:
    """The last line of a log."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1][-300:] if lines else "it said nothing"
