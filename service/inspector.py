"""Looking through models, each in a child process of its own: a few at a time, and limited.

The API parses no model; what does is started here as a worker starts its children: in the sandbox, with an
environment of a handful of variables, and limits on memory and processor time besides.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import structlog

from jobs.child_environment import child_environment
from jobs.process import ended
from jobs.sandbox.cell import Wish
from jobs.sandbox.choice import sandbox_of
from jobs.sandbox.limits import Limits, of_inspection
from jobs.sandbox.watch import EVERY, Watch
from jobs.scratch import Scratch
from jobs.settings import Settings
from prune_engine.errors import OutOfMemoryError, told
from prune_engine.processors import processors
from service.errors import (
    ClientGoneError,
    InspectionBusyError,
    InspectionCrashedError,
    InspectionTimeoutError,
)

# Seconds that a request waits for one of the others to end before it is told to come again.
PATIENCE: Final = 10.0
_TAIL: Final = 65_536
_READ: Final = 65_536
_FLED: Final = 2.0
_log = structlog.get_logger("service")


class Inspector:
    """Runs the children of one API."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.inspections)
        self._scratch: Scratch | None = None
        self._making = threading.Lock()

    @contextlib.asynccontextmanager
    async def folder(self) -> AsyncIterator[Path]:
        """An empty folder, removed with all that is in it when the block ends, however it ends."""
        with contextlib.ExitStack() as opened:

            def enter() -> Path:
                with self._making:  # the first two requests may come at once, each in a thread of its own
                    if self._scratch is None:
                        owner = f"api-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
                        self._scratch = Scratch(self._settings.scratch, owner)
                return opened.enter_context(self._scratch.folder(f"inspection-{secrets.token_hex(8)}"))

            try:
                with anyio.CancelScope(shield=True):
                    folder = await anyio.to_thread.run_sync(enter)
                yield folder
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(opened.close)

    async def run(self, folder: Path, *leave: asyncio.Future[Any], readable: Sequence[Path] = ()) -> None:
        """Have a child look through the model in `folder`; its result lies in `folder/out`.

        Args:
            folder: as `python -m prune_engine inspect` wants it.
            readable: files that it may read besides.
            leave: when one of these is done, nobody waits for the result any more.

        Raises:
            PruneError: what the child told of.
            SandboxUnavailableError: there is nothing to look through it in.
            InspectionBusyError, InspectionTimeoutError, InspectionCrashedError: as they say.
            ClientGoneError: one of `leave` was done first.
        """
        await self._take_slot()
        try:
            await self._run(folder, leave, readable)
        finally:
            self._slots.release()

    async def close(self) -> None:
        """Remove what is left."""
        if self._scratch is not None:
            await anyio.to_thread.run_sync(self._scratch.close)

    async def _take_slot(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._slots.acquire()
        except TimeoutError:
            number = self._settings.inspections
            raise InspectionBusyError(
                f"{number} model{'s are' if number > 1 else ' is'} being looked through, as many as this "
                "service allows at a time; try again in a few seconds",
                headers={"Retry-After": "10"},
            ) from None

    async def _run(
        self, folder: Path, leave: Sequence[asyncio.Future[Any]], readable: Sequence[Path]
    ) -> None:
        settings = self._settings
        command = settings.inspect_command or (sys.executable, "-P", "-m", "prune_engine", "inspect")
        wish = Wish((*command, str(folder)), folder, _limits(settings), readable=tuple(readable))
        cell = await anyio.to_thread.run_sync(lambda: sandbox_of(settings).cell(wish))
        watch = Watch(folder, cell.limits)
        child = await asyncio.create_subprocess_exec(
            *cell.command,
            cwd=folder,
            env=child_environment(settings, folder),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            preexec_fn=cell.preexec_fn,
        )
        said, errors = (
            asyncio.ensure_future(_tail(pipe)) for pipe in (child.stdout, child.stderr) if pipe is not None
        )
        exited = asyncio.ensure_future(child.wait())
        greedy = asyncio.ensure_future(_exceeded(watch, child.pid))
        try:
            await asyncio.wait(
                {exited, greedy, *leave},
                timeout=settings.inspect_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            in_time = exited.done()
        finally:
            with anyio.CancelScope(shield=True):
                _end(child.pid)  # and whatever it has started and left behind
                status = await exited
                await asyncio.wait({said, errors}, timeout=_FLED)
                for reader in (said, errors, greedy):
                    reader.cancel()
        if greedy.done() and not greedy.cancelled():
            raise InspectionCrashedError(
                f"the process that looked through the model was ended: {greedy.result()}"
            )
        if not in_time:
            if any(future.done() for future in leave):
                raise ClientGoneError("nobody waits for the inspection any more")
            raise _too_slow(settings)
        self._judge(cell.status(status), _heard(said), _heard(errors))

    def _judge(self, status: int, said: bytes, errors: bytes) -> None:
        """Raise what the child told of, or why it could not tell anything."""
        last = _last_event(said)
        if last.get("type") == "inspected":
            return
        if last.get("type") == "error":
            if last.get("code") == OutOfMemoryError.code:
                raise self._gone("it needs more memory than there is")
            raise told(str(last.get("code")), str(last.get("message"))[:4000], last.get("param"))
        if status in (-signal.SIGXCPU, -signal.SIGALRM):
            raise _too_slow(self._settings)
        _log.warning("inspection crashed", status=status, errors=errors[-2000:].decode(errors="replace"))
        raise self._gone(ended(status))

    def _gone(self, reason: str) -> InspectionCrashedError:
        return InspectionCrashedError(
            f"the process that looked through the model is gone: {reason}; it may take "
            f"{self._settings.inspect_memory_bytes:,} bytes of memory here; check the model in onnxruntime, "
            "or submit the job, which may have more"
        )


def _too_slow(settings: Settings) -> InspectionTimeoutError:
    return InspectionTimeoutError(
        f"the model could not be looked through within {settings.inspect_seconds:g} s; submit the job "
        "without validate_only, which has as long as it takes"
    )


def _limits(settings: Settings) -> Limits:
    threads = settings.child_threads or processors()
    return of_inspection(settings, math.ceil(settings.inspect_seconds * threads))


async def _exceeded(watch: Watch, pid: int) -> str:
    """Return when a limit of all processes together is exceeded, and which."""
    while True:
        await asyncio.sleep(EVERY)
        if (exceeded := await anyio.to_thread.run_sync(watch.exceeded, pid)) is not None:
            return exceeded


def _end(pid: int) -> None:
    """Kill a process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


async def _tail(pipe: asyncio.StreamReader) -> bytes:
    """The end of what a process says, all of it read."""
    kept = b""
    while chunk := await pipe.read(_READ):
        kept = (kept + chunk)[-_TAIL:]
    return kept


def _heard(reader: asyncio.Future[bytes]) -> bytes:
    return reader.result() if reader.done() and not reader.cancelled() else b""


def _last_event(said: bytes) -> dict[str, Any]:
    for line in reversed(said.splitlines()):
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                return event
    return {}
