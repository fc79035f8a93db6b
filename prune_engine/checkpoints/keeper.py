"""When a checkpoint is written, what goes into it, and who gets back what of one that is gone on from.

The state of a job is nested: a frontier has a descent, a descent has a run. Each of them keeps a level of the
checkpoint, under its name, for as long as it is at work. In the next attempt each asks for its level under
the same name, once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prune_engine import __version__
from prune_engine.checkpoints.folder import CheckpointFolder
from prune_engine.checkpoints.record import NAME, Record, StoredFile
from prune_engine.checkpoints.stopping import Stop, StoppedError
from prune_engine.checkpoints.tensors import copied
from prune_engine.events import CheckpointEvent, Listener, WarningEvent
from prune_engine.state import State

SECONDS = 60.0
SHARE = 0.05
"""Of the time, what checkpoints may take: where writing one takes long, there are fewer."""

Notes = dict[str, Any]
"""What of a level is no tensor, as JSON has it."""


class UnfitCheckpointError(Exception):
    """What a checkpoint holds does not fit the training that is to go on from it."""


class Part:
    """A state that stays what it is: written with the first checkpoint that needs it, from then on a file."""

    def __init__(self, state: State) -> None:
        self._state: State | None = state
        self._folder: CheckpointFolder | None = None
        self.stored: StoredFile | None = None

    @classmethod
    def of_file(cls, folder: CheckpointFolder, stored: StoredFile) -> Part:
        """One that was written before."""
        part = cls({})
        part._state, part._folder, part.stored = None, folder, stored
        return part

    @property
    def state(self) -> State:
        """The state, to the same bits."""
        if self._state is not None:
            return self._state
        assert self._folder is not None  # noqa: S101 - one or the other is there
        assert self.stored is not None  # noqa: S101 - as above
        return self._folder.load(self.stored)

    def put_away(self, folder: CheckpointFolder, name: str) -> StoredFile:
        """Its file; written if that was not done, and the memory is then free."""
        if self.stored is None:
            self.stored = folder.store(self.state, name)
            self._state, self._folder = None, folder
        return self.stored


@dataclass(frozen=True)
class Level:
    """What a level keeps: what changes with every step as `state`, the rest as parts."""

    notes: Notes
    state: State | None = None
    parts: dict[str, Part] = field(default_factory=dict)


class Keeper:
    """What a training tells of its state. This one writes nothing, and has nothing to go on from.

    Attributes:
        keeps: whether anything comes of what it is told.
        warnings: what went wrong with it, for the report.
    """

    keeps = False

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def goes_on(self, level: str) -> bool:
        """Whether there is something to go on from at this level."""
        return False

    def found(self, level: str) -> Level | None:
        """What the checkpoint has of a level; None: it has none, or was asked before."""
        return None

    def keeping(self, level: str, look: Callable[[], Level]) -> AbstractContextManager[None]:
        """Meanwhile `look()` is part of every checkpoint."""
        return nullcontext()

    def training(self, look: Callable[[], Level]) -> AbstractContextManager[None]:
        """The same for the level of the run, whose steps are done meanwhile."""
        return nullcontext()

    def between_steps(self) -> None:
        """A step is done and the next has not begun: the moment to write, and to stop if that was asked for.

        Raises:
            StoppedError: it was; the checkpoint is written.
        """

    def on_disk(self, state: State) -> Part | None:
        """A state that is too large for the memory as a part that is written at once; None: it cannot be."""
        return None


NOTHING_KEPT = Keeper()


class Checkpoints(Keeper):
    """The checkpoints of one job in one folder.

    Args:
        folder: where they lie; nothing else should be called `checkpoint-*` there.
        seconds: at least, from one to the next; 0: one after every step.
        stop: asks the run to stop; what was asked for is done between two steps.
        writes: False in processes that train along with one that writes.

    Attributes:
        stop: as above.
    """

    def __init__(
        self, folder: Path | str, seconds: float = SECONDS, stop: Stop | None = None, *, writes: bool = True
    ) -> None:
        self._folder = CheckpointFolder(Path(folder))
        self._seconds = seconds
        self.stop = stop or Stop()
        self._writes = self.keeps = writes
        self._digest = ""
        self._tell: Listener | None = None
        self._levels: dict[str, Callable[[], Level]] = {}
        self._record: Record | None = None
        self._left: set[str] = set()
        self._number = 0
        self._next = float("inf")
        self._full = False
        super().__init__()

    def begin(self, digest: str, tell: Listener) -> None:
        """Look for a checkpoint of the same request to go on from; say so where it cannot be used.

        Args:
            digest: of the request.
            tell: hears of checkpoints and warnings.
        """
        self._digest, self._tell = digest, tell
        try:
            record = self._folder.record()
            if record is not None:
                _require_ours(record, digest)
        except ValueError as error:
            self.give_up(str(error))
            return
        if record is not None:
            self._record, self._number, self._left = record, record.number, set(record.notes)

    def give_up(self, reason: str) -> None:
        """Go on from nothing: the checkpoint that there is cannot be used."""
        self._record, self._left = None, set()
        self._warn(f"the checkpoint cannot be used ({reason}); the work begins anew")

    def end(self) -> None:
        """The job is done: leave no checkpoint."""
        if self._writes:
            self._folder.remove()

    def goes_on(self, level: str) -> bool:
        """Whether there is something to go on from at this level."""
        return level in self._left

    def found(self, level: str) -> Level | None:
        """What the checkpoint has of a level; None: it has none, or was asked before.

        Raises:
            UnfitCheckpointError: its files are gone.
        """
        if self._record is None or level not in self._left:
            return None
        self._left.discard(level)
        stored = self._record.parts.get(level, {})
        parts = {name: Part.of_file(self._folder, file) for name, file in stored.items()}
        with fitting():
            state = parts.pop(STATE).state if STATE in parts else None
        return Level(self._record.notes[level], state, parts)

    @contextmanager
    def keeping(self, level: str, look: Callable[[], Level]) -> Iterator[None]:
        """Meanwhile `look()` is part of every checkpoint."""
        self._levels[level] = look
        try:
            yield
        finally:
            del self._levels[level]

    @contextmanager
    def training(self, look: Callable[[], Level]) -> Iterator[None]:
        """The same for the level of the run, whose steps are done meanwhile; it is not stopped in one."""
        if self._next == float("inf"):
            self._next = time.monotonic() + self._seconds
        with self.stop.deferred(), self.keeping("run", look):
            yield

    def between_steps(self) -> None:
        """A step is done and the next has not begun: the moment to write, and to stop if that was asked for.

        Raises:
            StoppedError: it was; the checkpoint is written.
        """
        if not self._writes:
            return
        if self.stop.asked:
            self._write()
            raise StoppedError
        if time.monotonic() >= self._next:
            begun = time.monotonic()
            self._write()
            done = time.monotonic()
            self._next = begun + (max(self._seconds, (done - begun) / SHARE) if self._seconds else 0.0)

    def on_disk(self, state: State) -> Part | None:
        """A state that is too large for the memory as a part that is written at once; None: it cannot be."""
        if not self._writes:
            return None
        part = Part(state)
        try:
            part.put_away(self._folder, f"checkpoint-{self._number + 1}-snapshot.safetensors")
        except OSError:
            return None
        return part

    def _write(self) -> None:
        number = self._number + 1
        levels = {name: look() for name, look in self._levels.items()}
        run = levels["run"].notes
        try:
            record = Record(
                engine=__version__,
                digest=self._digest,
                number=number,
                step=run["step"],
                total_steps=run["total_steps"],
                time=time.time(),
                notes={name: level.notes for name, level in levels.items()},
                parts={name: self._stored(number, name, level) for name, level in levels.items()},
            )
            self._folder.commit(record)
        except OSError as error:
            if not self._full:
                self._warn(
                    f"a checkpoint could not be written ({error}); the training goes on, and if it is "
                    "interrupted, it will go on from the one before"
                )
            self._full = True
            self._folder.forget(_state_file(number))
            return
        self._number, self._full = number, False
        if self._tell is not None:
            files = [*record.files, NAME]
            self._tell(CheckpointEvent(files=files, step=record.step, total_steps=record.total_steps))

    def _stored(self, number: int, name: str, level: Level) -> dict[str, StoredFile]:
        stored = {
            part: kept.put_away(self._folder, f"checkpoint-{number}-{name}-{part}.safetensors")
            for part, kept in level.parts.items()
        }
        if level.state is not None:
            stored[STATE] = self._folder.store(level.state, _state_file(number))
        return stored

    def _warn(self, message: str) -> None:
        self.warnings.append(message)
        if self._tell is not None:
            self._tell(WarningEvent(message=message))


STATE = "state"
"""The part of a level that is written anew with every checkpoint."""


def _state_file(number: int) -> str:
    return f"checkpoint-{number}.safetensors"


def _require_ours(record: Record, digest: str) -> None:
    if record.engine != __version__:
        raise ValueError(f"it is of version {record.engine}, and this is {__version__}")
    if record.digest != digest:
        raise ValueError("it is of another model, other data or another spec")


@contextmanager
def fitting() -> Iterator[None]:
    """Around the code that takes a found level up.

    Raises:
        UnfitCheckpointError: it does not fit.
    """
    try:
        yield
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError, OSError) as error:
        raise UnfitCheckpointError(f"{type(error).__name__}: {error}") from error


def unchanging(state: State) -> Part:
    """A copy of a state as it is now, as a part."""
    return Part(copied(state))
