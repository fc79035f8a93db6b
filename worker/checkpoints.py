"""A run's checkpoints: into the artifact store while the child trains on, and back for the next run.

The child goes on as soon as it has said that a checkpoint is complete, and removes it after the next one. So
its files are linked aside at once, and stored from there in a thread of its own; when several wait, only the
newest counts. The record names a checkpoint once all of its files are stored; then what no longer counts is
deleted. A run that has lost its job cannot change the record, and takes what it stored away again.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import logging
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from jobs.artifacts import ArtifactStore, checkpoint_key
from jobs.errors import (
    ArtifactNotFoundError,
    ArtifactsUnavailableError,
    InvalidTransitionError,
    JobNotFoundError,
    StoreUnavailableError,
)
from jobs.record import Checkpoint, CheckpointFile, Job, now
from jobs.store import JobStore
from prune_engine.events import CheckpointEvent
from worker.outputs import OutputsError, plain_file

log = logging.getLogger(__name__)
_MOST_FILES = 1000
_AGAIN = 1.0
_CLOSING = 2.0
Signature = tuple[int, int, int]


class _Waiting:
    """A checkpoint that was said to be complete, with its files linked aside."""

    def __init__(self, event: CheckpointEvent, folder: Path, number: int) -> None:
        self.event = event
        self.folder = folder
        self.number = number


class Checkpoints:
    """The checkpoints of one run.

    Args:
        store: has the record.
        artifacts: where the files go.
        job: the job, as it was when the run began.
        aside: an empty folder on the file system of the child's folder, which the child does not know.
    """

    def __init__(self, store: JobStore, artifacts: ArtifactStore, job: Job, aside: Path) -> None:
        self._store = store
        self._artifacts = artifacts
        self._job = job
        self._aside = aside
        self._number = 0
        self._known: dict[str, tuple[Signature, CheckpointFile]] = {}
        self._named = set(_keys(job.checkpoint))  # what the record names
        self._waiting: _Waiting | None = None
        self._busy = False
        self._over = False
        self._change = threading.Condition()
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._work,), name="checkpoints", daemon=True
        )
        self._thread.start()

    def fetch(self, folder: Path, between: Callable[[], None]) -> str | None:
        """Put the record's checkpoint into the child's folder; why there is none, where there should be one.

        `between` is called between the parts of a long copy; what it raises ends the work.

        Raises:
            ArtifactsUnavailableError: the artifact store does not answer.
        """
        if self._job.checkpoint is None:
            return None
        fetched: list[Path] = []
        try:
            for file in self._job.checkpoint.files:
                path = folder / file.name
                path.parent.mkdir(parents=True, exist_ok=True)
                fetched.append(path)
                self._artifacts.fetch_file(file.key, path, between)
                with path.open("rb") as there:
                    digest = hashlib.file_digest(there, "sha256").hexdigest()
                if digest != file.sha256:
                    raise ArtifactNotFoundError(f"{file.name} is not what was stored")
                self._known[file.name] = (_signature(path), file)
        except ArtifactNotFoundError as error:
            for path in fetched:
                path.unlink(missing_ok=True)
            self._known.clear()
            return f"the checkpoint cannot be used ({error.message}); the job begins anew"
        return None

    def offer(self, event: CheckpointEvent, folder: Path) -> None:
        """Take a checkpoint that lies complete in the child's folder; it is stored soon."""
        self._number += 1
        aside = self._aside / str(self._number)
        try:
            if not event.files or len(event.files) > _MOST_FILES:
                raise OutputsError(f"a checkpoint has {len(event.files)} files")
            for name in event.files:
                plain_file(folder, name)
                _link(folder, name, aside / name)
        except (OutputsError, OSError) as error:
            log.warning("%s: a checkpoint was not taken: %s", self._job.id, error)
            shutil.rmtree(aside, ignore_errors=True)
            return
        with self._change:
            if self._waiting is not None:
                shutil.rmtree(self._waiting.folder, ignore_errors=True)
            self._waiting = _Waiting(event, aside, self._number)
            self._change.notify_all()

    def settled(self, seconds: float) -> bool:
        """Wait until all that was offered is stored; whether that was so within `seconds`."""
        with self._change:
            return self._change.wait_for(lambda: self._waiting is None and not self._busy, seconds)

    def close(self) -> None:
        """Store no more; nobody waits long for what is just being stored."""
        with self._change:
            self._over = True
            self._change.notify_all()
        self._thread.join(_CLOSING)

    def _work(self) -> None:
        while True:
            with self._change:
                while self._waiting is None and not self._over:
                    self._change.wait()
                if self._waiting is None or self._over:
                    return
                waiting, self._waiting, self._busy = self._waiting, None, True
            try:
                self._keep(waiting)
            except Exception:
                log.exception("%s: a checkpoint was not stored", self._job.id)
            finally:
                shutil.rmtree(waiting.folder, ignore_errors=True)
                with self._change:
                    self._busy = False
                    self._change.notify_all()

    def _keep(self, waiting: _Waiting) -> None:
        """Store a checkpoint and have the record name it; try again until it works or a newer one waits."""
        stored: list[CheckpointFile] = []
        while True:
            try:
                for name in waiting.event.files[len(stored) :]:
                    stored.append(self._put(waiting, name))
                self._name(waiting.event, tuple(stored))
                return
            except StoreUnavailableError as error:
                log.warning("%s: checkpoint %d waits, %s", self._job.id, waiting.number, error)
                self._named |= {file.key for file in stored}  # perhaps: the answer may have been lost
            except (ArtifactsUnavailableError, OSError) as error:
                log.warning("%s: checkpoint %d waits, %s", self._job.id, waiting.number, error)
            except (InvalidTransitionError, JobNotFoundError) as error:
                log.warning("%s: checkpoint %d is nobody's: %s", self._job.id, waiting.number, error)
                break
            with self._change:
                if self._change.wait_for(lambda: self._over or self._waiting is not None, _AGAIN):
                    break
        self._drop(file.key for file in stored)

    def _put(self, waiting: _Waiting, name: str) -> CheckpointFile:
        """Store a file, unless it is one that an earlier checkpoint had too."""
        path = waiting.folder / name
        signature = _signature(path)
        known = self._known.get(name)
        if known is not None and known[0] == signature:
            return known[1]
        key = checkpoint_key(self._job.id, self._job.attempt, waiting.number, name)
        there = self._artifacts.put_file(key, path)
        file = CheckpointFile(name=name, key=key, bytes=there.bytes, sha256=there.sha256)
        self._known[name] = (signature, file)
        return file

    def _name(self, event: CheckpointEvent, files: tuple[CheckpointFile, ...]) -> None:
        checkpoint = Checkpoint(
            files=files,
            step=event.step,
            total_steps=event.total_steps,
            attempt=self._job.attempt,
            saved_at=now(),
        )
        began = time.monotonic()
        self._store.save(self._job.id, checkpoint)
        log.info(
            "%s: checkpoint at step %d of %d stored (%.1f MB, %.1f s)",
            self._job.id,
            event.step,
            event.total_steps,
            sum(file.bytes for file in files) / 1e6,
            time.monotonic() - began,
        )
        superseded = self._named - set(_keys(checkpoint))
        self._named = set(_keys(checkpoint))
        self._drop(superseded)

    def _drop(self, keys: Iterable[str]) -> None:
        """Delete files that no record names; one that cannot be deleted goes when the job does."""
        gone = set(keys) - self._named
        self._known = {name: known for name, known in self._known.items() if known[1].key not in gone}
        try:
            self._artifacts.delete_files(sorted(gone))
        except ArtifactsUnavailableError as error:
            log.warning("%s: %s", self._job.id, error)


def _keys(checkpoint: Checkpoint | None) -> list[str]:
    return [file.key for file in checkpoint.files] if checkpoint is not None else []


def _signature(path: Path) -> Signature:
    """What tells a file from another one of its name, as long as nobody writes into it."""
    about = path.stat()
    return about.st_ino, about.st_size, about.st_mtime_ns


def _link(folder: Path, name: str, target: Path) -> None:
    """A second name for a file, which stays when the first goes; a copy where links are not allowed.

    The child still runs and may put links in the place of folders at any moment: none is followed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    *parents, last = PurePosixPath(name).parts
    with contextlib.ExitStack() as opened:
        place = _opened(str(folder), os.O_DIRECTORY, None, opened)
        for parent in parents:
            place = _opened(parent, os.O_DIRECTORY, place, opened)
        try:
            os.link(last, target, src_dir_fd=place, follow_symlinks=False)
        except OSError:
            there = _opened(last, os.O_NONBLOCK, place, opened)
            if not stat.S_ISREG(os.fstat(there).st_mode):
                raise OutputsError(f"{name} is no plain file") from None
            with open(there, "rb", closefd=False) as content, target.open("xb") as here:
                shutil.copyfileobj(content, here)
    if not stat.S_ISREG(target.lstat().st_mode):
        target.unlink()
        raise OutputsError(f"{name} is no plain file")


def _opened(name: str, flags: int, place: int | None, opened: contextlib.ExitStack) -> int:
    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=place)
    opened.callback(os.close, handle)
    return handle
