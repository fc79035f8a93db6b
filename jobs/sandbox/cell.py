"""What a way of confining gives to whoever starts a process."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.process import limit
from jobs.sandbox import stage
from jobs.sandbox.limits import Limits
from jobs.sandbox.policy import Network
from jobs.sandbox.stage import Stage


@dataclass(frozen=True)
class Wish:
    """What a child is to have.

    Args:
        command: what to run.
        folder: its working folder, which it may write.
        limits: the most it may take.
        network: `none`; `loopback`, for processes that train together; `open`, for what fetches.
        readable: files and folders that it may read besides.
        writable: folders that it may write besides.
    """

    command: Sequence[str]
    folder: Path
    limits: Limits
    network: Network = "none"
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()

    @property
    def own(self) -> tuple[Path, ...]:
        """All folders that it may write."""
        return (self.folder, *self.writable)


@dataclass(frozen=True)
class Cell:
    """What to pass on to `Popen` or `create_subprocess_exec`, and how to read what comes of it.

    `folder` and `limits` are for `jobs.sandbox.watch`. `shell_statuses`: a signal is told as a shell does,
    128 and its number.
    """

    command: list[str]
    folder: Path
    limits: Limits
    preexec_fn: Callable[[], None] | None
    shell_statuses: bool = False

    def status(self, returncode: int) -> int:
        """The exit status of the command itself, negative for a signal."""
        return 128 - returncode if self.shell_statuses and returncode > 128 else returncode


def stage_command(settings: Stage, command: Sequence[str]) -> list[str]:
    """The command by way of the stage."""
    return [sys.executable, "-I", "-S", "-B", stage.__file__, json.dumps(settings), *command]


def stage_settings(
    limits: Mapping[int, int],
    program: bytes,
    *,
    folder: str,
    uid: int | None = None,
    keep: bool = False,
    landlock: int = 0,
    rules: Sequence[tuple[str, int]] = (),
    tcp: bool = False,
) -> Stage:
    """`Stage`, most of it left out."""
    return Stage(
        limits=[(kind, *limit(kind, most)) for kind, most in limits.items()],
        folder=folder,
        uid=uid,
        filter=base64.b64encode(program).decode(),
        keep=keep,
        landlock=landlock,
        rules=list(rules),
        tcp=tcp,
    )
