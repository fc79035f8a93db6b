"""A loss that turns NaN: back to the last snapshot with half the learning rate, twice, then the end."""

from __future__ import annotations

import tempfile
from typing import IO, TYPE_CHECKING

import torch
from torch import Tensor

from prune_engine.checkpoints.keeper import NOTHING_KEPT, Keeper, Level, Part
from prune_engine.errors import DivergedError
from prune_engine.events import Listener, WarningEvent
from prune_engine.state import State
from prune_engine.training.inference import outputs_for
from prune_engine.training.snapshot import live, restore, take

if TYPE_CHECKING:
    from prune_engine.training.run import Run

INTERVAL = 0.05
"""Of the schedules, between two snapshots: what a step back costs at most."""

STEPS_BACK = 2
PART = 1 << 20
"""Numbers that are looked at together."""
IN_MEMORY = 64 << 20
"""Bytes of a snapshot beyond which it lies in a file without a name."""

_LOOKED_AT = 2_000
_MAY_OVERFLOW = ("training.adam", "training.regrowth")
"""Parts of a state that hold squares of gradients: infinity there only stops a weight."""


class Recovery:
    """Drives a run, and takes it back where its loss or its values are no numbers any more.

    A snapshot is taken where a leg begins and every twentieth of the schedules; all values in it are finite.
    So a step back never leaves the phase that it happens in.

    Attributes:
        warnings: one sentence for each step back.

    Args:
        run: the training.
        emit: is told of each step back.
        keeper: where large snapshots may lie.
    """

    def __init__(self, run: Run, emit: Listener, keeper: Keeper = NOTHING_KEPT) -> None:
        self._run = run
        self._emit = emit
        self._kept = _Kept(keeper)
        self._goal: float | None = None
        self.warnings: list[str] = []

    def advance(self, until: float) -> None:
        """Step after step until the schedules are at `until`.

        Raises:
            DivergedError: NaN or infinity came up a third time; or at the very first step, which no learning
                rate has anything to do with.
        """
        run = self._run
        # After a checkpoint there is an interval to go on with, and a snapshot of where it began.
        if self._goal is None and run.clock.progress < until:
            self._kept.put(run)
        while self._goal is not None or run.clock.progress < until:
            if self._goal is None:
                self._goal = min(until, run.clock.progress + INTERVAL)
            try:
                run.steps(self._goal)
                _require_finite(run)
            except DivergedError as error:
                self._step_back(error)
            else:
                self._kept.put(run)
            self._goal = None

    def level(self) -> Level:
        """What a checkpoint has of it: the snapshot, and how far it is good for."""
        return Level({"warnings": self.warnings, "goal": self._goal}, parts={"kept": self._kept.part()})

    def go_on(self, level: Level) -> None:
        """Go on from `level()`, in the midst of an interval."""
        self.warnings = list(level.notes["warnings"])
        self._goal = level.notes["goal"]
        self._kept.take_up(level.parts["kept"])

    def _step_back(self, error: DivergedError) -> None:
        run = self._run
        reason = error.message.partition(";")[0]
        if run.clock.step <= 1:
            raise DivergedError(f"{reason}, before anything was trained; {_at_the_start(run)}") from None
        if not run.settings.train_weights:
            raise error
        if len(self.warnings) == STEPS_BACK:
            raise DivergedError(
                f"{reason}, although the training had gone back {STEPS_BACK} times and halved its learning "
                f"rate, in the end to {run.settings.learning_rate:.3g}; try a much lower learning_rate, a "
                "higher density, or another seed",
                param="learning_rate",
            ) from None
        run.halve_rate()
        restore(run, self._kept.get())
        said = (
            f"{reason[:1].upper()}{reason[1:]}. The training went back to step {run.clock.step} and on with "
            f"half the learning rate, {run.settings.learning_rate:.3g}."
        )
        self.warnings.append(said)
        self._emit(WarningEvent(message=said))


def _require_finite(run: Run) -> None:
    for name, value in live(run).items():
        if isinstance(value, Tensor) and name.startswith(("training.", "buffers.")):
            counts = value.is_floating_point() and not name.startswith(_MAY_OVERFLOW)
            if counts and not _finite(value):
                raise DivergedError(
                    f"weights became NaN or infinite at training step {run.clock.step}", param="learning_rate"
                )


def _finite(value: Tensor) -> bool:
    """In parts, as what lies between is as long as what is looked at."""
    return all(bool(torch.isfinite(part).all()) for part in torch.split(value.reshape(-1), PART))


def _at_the_start(run: Run) -> str:
    """Whose fault a loss is that is no number at the first step."""
    subject = run.subject
    rows = subject.prepared.train
    count = min(len(rows), _LOOKED_AT)
    was_training = subject.module.training
    subject.module.eval()
    output = outputs_for(subject.module, rows, count, subject.prepared.fixed_batch)[
        subject.prepared.output_index
    ]
    subject.module.train(was_training)
    bad = int((~torch.isfinite(output.reshape(len(output), -1))).any(dim=1).sum())
    if bad:
        return (
            f"the model itself gives NaN or infinity for {bad} of the first {count} training rows. Are they "
            "prepared as it expects (preprocess)? Else its own arithmetic overflows"
        )
    return "the model's outputs are finite, but not their loss: are the labels far too large for it?"


class _Kept:
    """The last snapshot: in memory, or in a file where it is large."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._part: Part | None = None
        self._file: IO[bytes] | None = None

    def put(self, run: Run) -> None:
        """Keep the state of `run` instead of the one before; there are never two in memory."""
        self._part, state = None, live(run)
        if sum(value.nbytes for value in state.values() if isinstance(value, Tensor)) <= IN_MEMORY:
            self._part = Part(take(run))
        else:
            self._part = self._keeper.on_disk(state)
        if self._part is not None:
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this object
        self._file.seek(0)
        torch.save(state, self._file)
        self._file.truncate()

    def get(self) -> State:
        """The one that was kept last."""
        if self._part is not None:
            return self._part.state
        if self._file is None:
            raise LookupError("no snapshot was kept")
        self._file.seek(0)
        state: State = torch.load(self._file, map_location="cpu", weights_only=True)
        return state

    def part(self) -> Part:
        """It as part of a checkpoint."""
        if self._part is None:
            self._part = Part(self.get())
        return self._part

    def take_up(self, part: Part) -> None:
        """Keep what a checkpoint has."""
        self._part = part
