"""Which sandbox there is on this machine: found out once, by really starting something in it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from jobs.errors import SandboxUnavailableError
from jobs.process import die_with_parent
from jobs.sandbox import beside, bubblewrap, landlock, policy, users
from jobs.sandbox.cell import Cell, Wish
from jobs.sandbox.limits import Limits
from jobs.settings import Settings

Way = Literal["bubblewrap", "landlock", "off"]
_WAYS: Final[tuple[Way, ...]] = ("bubblewrap", "landlock")  # the strongest first
_PATIENCE: Final = 30.0
_PROBE: Final = """
import sys
open("inside", "w").close()
try:
    open("../hidden/file").close()
except OSError:
    sys.exit(0)
sys.exit("it sees files that it should not see")
"""
_ADVICE: Final = (
    "install bubblewrap (apt install bubblewrap) and allow user namespaces, or use a kernel with Landlock "
    "(Linux 5.13 and newer); SANDBOX=off runs strangers' models with your own rights"
)


@dataclass(frozen=True)
class Sandbox:
    """The way that is in force. `description` is for the report, `/readyz` and the log."""

    way: Way
    description: str

    def cell(self, wish: Wish) -> Cell:
        """What to start. Where we are root, the folder then belongs to somebody else.

        Raises:
            SandboxUnavailableError: this way cannot give what is wished for.
        """
        if self.way == "off":
            limits = wish.limits.of_each_process(users.running())
            return Cell(list(wish.command), wish.folder, wish.limits, die_with_parent(limits))
        return bubblewrap.cell(wish) if self.way == "bubblewrap" else beside.cell(wish)


def sandbox_of(settings: Settings) -> Sandbox:
    """The sandbox that `settings.sandbox` asks for; `auto`: the strongest that works here.

    Raises:
        SandboxUnavailableError: there is none, or not the one that was asked for.
    """
    return _found(settings.sandbox)


@cache
def _found(asked: str) -> Sandbox:
    if asked == "off":
        return Sandbox("off", "off: models run with the rights of the worker")
    wrong = {way: _wrong_with(way) for way in _WAYS if asked in ("auto", way)}
    for way, reason in wrong.items():
        if reason is None:
            return Sandbox(way, _described(way))
    reasons = "; ".join(f"{way}: {reason}" for way, reason in wrong.items())
    raise SandboxUnavailableError(f"there is no sandbox to run models in ({reasons}): {_ADVICE}")


def _wrong_with(way: Way) -> str | None:
    """Why this way does not work here; None: it does."""
    if sys.platform != "linux":
        return "Linux only"
    if not policy.supported():
        return "this processor's system calls are not known"
    if way == "bubblewrap" and bubblewrap.installed() is None:
        return "bwrap is not installed"
    if way == "landlock" and landlock.version() == 0:
        return "the kernel does not have it, or it is switched off"
    return _tried(bubblewrap.cell if way == "bubblewrap" else beside.cell)


def _tried(confine: Callable[[Wish], Cell]) -> str | None:
    """Why a small program does not run as it should: it writes beside itself and sees no other folder."""
    with tempfile.TemporaryDirectory(prefix="prunery-sandbox-") as outside:
        folder = Path(outside) / "folder"
        (folder / "tmp").mkdir(parents=True)
        hidden = Path(outside) / "hidden"
        hidden.mkdir()
        (hidden / "file").touch()
        command = [sys.executable, "-I", "-S", "-c", _PROBE]
        wish = Wish(command, folder, Limits(1024**3, 1024**2, 64))
        cell = confine(wish)
        try:
            done = subprocess.run(
                cell.command,
                cwd=folder,
                env={},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE,
                preexec_fn=cell.preexec_fn,
                start_new_session=True,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode == 0 and (folder / "inside").exists():
            return None
        return _last_line(done.stderr) or f"it ended with status {done.returncode}"


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1][-300:] if lines else ""


def _described(way: Way) -> str:
    if way == "bubblewrap":
        return "bubblewrap (its own files, processes and network) and seccomp"
    return f"Landlock {landlock.version()} (its own files) and seccomp (no network)"
