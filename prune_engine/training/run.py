"""A training between two steps: all that a step reads and writes, driven in legs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from prune_engine.checkpoints.keeper import NOTHING_KEPT, Keeper, Part
from prune_engine.events import Listener
from prune_engine.methods import METHODS
from prune_engine.training.batches import Batches
from prune_engine.training.clock import Clock
from prune_engine.training.curve import Curve
from prune_engine.training.objective import Objective
from prune_engine.training.phases import FixedMaskPhase, Phase, PruningPhase
from prune_engine.training.rate_probe import standing_rate
from prune_engine.training.recovery import Recovery
from prune_engine.training.regrow import Regrowth, updates_in
from prune_engine.training.settings import AUTO_RATE, Settings
from prune_engine.training.subject import Subject
from prune_engine.training.validation import HoldoutSample

MEASUREMENTS = 20
PROBE_SHARE = 0.2
"""Of `max_minutes`, what the search for the learning rate may take."""


@dataclass
class Ending:
    """What is known of the end of a run while it is followed there.

    Attributes:
        started: when the run began, on the monotonic clock; earlier for every attempt before this one.
        fixed_at: when its mask was fixed; None: it is not.
        before_finetuning: name -> value at that moment, of parameters and running statistics.
        part: the same for checkpoints, once one was written.
    """

    started: float
    fixed_at: float | None = None
    before_finetuning: dict[str, np.ndarray] = field(default_factory=dict)
    part: Part | None = None


class Run:
    """A training that can be stopped between any two steps, kept (`training/snapshot.py`) and gone on with.

    It begins with the gates. `advance` does steps, `close_gates` and `fix` go on to the next phase, `finish`
    leaves the final weights in the module.

    Attributes:
        subject: what is trained on what.
        settings: as they were resolved; the learning rate may be lower than the rule's.
        clock: how far it is.
        batches: which rows come next.
        curve: what has been seen of it so far.
        pruning: the phase of the gates, kept when the gates are closed, so that one can go back to it.
        phase: what is done around a step now.
        recovery: goes back to a snapshot where the loss diverges; has a warning for each time.
        measurements: how often the metric was measured for the curve.
        ending: what is known of its end, as soon as that is headed for.
        bearable: the learning rate that was found to be, where the rule's is not; else None.

    Args:
        subject, settings, clock: become attributes.
        emit: who is told.
        keeper: is asked between two steps; knows whether the run goes on from a checkpoint, which then has
            the learning rate.
    """

    def __init__(
        self,
        subject: Subject,
        settings: Settings,
        clock: Clock,
        emit: Listener,
        keeper: Keeper = NOTHING_KEPT,
    ) -> None:
        self.subject = subject
        self.clock = clock
        self.settings = settings
        self._holdout = HoldoutSample(subject.module, subject.prepared)
        self._objective = Objective(
            subject.module,
            subject.prepared,
            settings.distillation,
            settings.distillation_temperature,
            clock.total_steps * settings.batch_size,
            at_once=settings.max_minutes is None,
        )
        self._objective.shifts = subject.shifts(settings)
        rows = len(subject.prepared.train)
        self.batches = Batches(rows, settings.batch_size, settings.seed, subject.device)
        metric = subject.prepared.metric.name
        self.curve = Curve(clock.total_steps, settings.steps_per_epoch, emit, metric)
        self.measurements = 0
        subject.begin()
        self.bearable: float | None = None
        if settings.learning_rate_why == AUTO_RATE and not keeper.goes_on("run"):
            self.settings = settings = self._probe(settings)
        method = METHODS[settings.method](subject.flat, settings.gates, subject.layout)
        self.pruning = PruningPhase(
            subject.flat,
            method,
            settings.learning_rate,
            settings.weight_decay,
            trains=settings.train_weights,
        )
        self.method = method
        self.phase: Phase = self.pruning
        self._between_steps = keeper.between_steps
        self.recovery = Recovery(self, emit, keeper)
        self.ending = Ending(clock.started)

    def advance(self, until: float) -> None:
        """Step after step until the schedules are at `until`; what diverges is taken back, twice.

        Raises:
            DivergedError: as `Recovery.advance` does.
        """
        self.recovery.advance(until)

    def halve_rate(self) -> None:
        """Half the learning rate of weights from the next phase on, and of the gates' phase at once."""
        self.bearable = rate = self.settings.learning_rate / 2
        why = "halved where the loss diverged"
        self.settings = replace(self.settings, learning_rate=rate, learning_rate_why=why)
        self.pruning.peak = rate

    def steps(self, until: float) -> None:
        """Step after step until the schedules are at `until`, whatever comes of it."""
        while (progress := self.clock.progress) < until:
            phase, overall = self.phase, self.clock.overall
            phase.before_forward(progress)
            loss = self._objective.backward(next(self.batches), self.clock.step)
            phase.after_backward(progress)
            self.clock.tick()
            self.curve.step(self.clock.step, loss, phase.stage, phase.density, self.clock.overall)
            self._measure(progress, overall)
            self._between_steps()

    def follow(self, settings: Settings) -> None:
        """Go on to another density, with the settings that belong to it; the learning rate stays bearable."""
        if self.bearable is not None and settings.learning_rate > self.bearable:
            settings = replace(
                settings, learning_rate=self.bearable, learning_rate_why=self.settings.learning_rate_why
            )
        self.settings = settings
        self._objective.share = settings.distillation
        self._objective.shifts = self.subject.shifts(settings)
        self.pruning.peak = settings.learning_rate
        self.method.retarget(settings.gates)

    def close_gates(self) -> None:
        """From now on the density is exact: weights are exchanged, where the settings say so, until `fix`."""
        self.method.release()
        self.phase = self.fixed_phase(self.method.mask(), exchanging=True)
        self.pruning.release()

    def fixed_phase(self, mask: Tensor, *, exchanging: bool) -> FixedMaskPhase:
        """A phase that keeps what `mask` (flat, bool) keeps, and exchanges weights where that is foreseen."""
        settings = self.settings
        return FixedMaskPhase(
            self.subject.flat,
            mask,
            settings.learning_rate,
            settings.weight_decay,
            self.pruning.optimiser,
            regrowth=self._regrowth() if exchanging else None,
            rate_pause=settings.rate_pause,
            trains=settings.train_weights,
        )

    def fix(self) -> Tensor:
        """Only fine-tuning is left; the mask, flat, bool, over the prunable weights."""
        return self._fixed.fix()

    @property
    def gates_open(self) -> bool:
        """Whether `close_gates` is still to come."""
        return not isinstance(self.phase, FixedMaskPhase)

    def mask(self) -> Tensor:
        """What is kept since `close_gates`, flat, bool, over the prunable weights."""
        return self._fixed.mask()

    def finish(self) -> None:
        """Leave the final weights in the module, which is then in inference mode."""
        self._fixed.finish()
        self.subject.module.eval()

    @property
    def _fixed(self) -> FixedMaskPhase:
        if not isinstance(self.phase, FixedMaskPhase):
            raise TypeError("the gates are still open; close_gates() comes first")
        return self.phase

    def _regrowth(self) -> Regrowth | None:
        settings, flat = self.settings, self.subject.flat
        start, until = settings.gates_until, settings.gates.fix_mask_at
        if start >= until or not settings.regrow or settings.gates.kept >= flat.prunable:
            return None
        updates = updates_in(int((until - start) * self.clock.total_steps))
        layers = self.subject.layout.weights
        return Regrowth(flat.prunable, settings.regrow, start, until, flat.values.device, layers, updates)

    def _probe(self, settings: Settings) -> Settings:
        """Lower the learning rate where the network would not stand it; leaves the module as it was."""
        module, flat = self.subject.module, self.subject.flat
        assert isinstance(module, torch.nn.Module)  # noqa: S101 - every module with parameters is one
        buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
        rows = len(self.subject.prepared.train)
        batches = Batches(rows, settings.batch_size, settings.seed + 1, self.subject.device)
        until = self.clock.started + PROBE_SHARE * 60.0 * (settings.max_minutes or math.inf)
        rate = standing_rate(flat, self._objective, batches, settings.learning_rate, until)
        for buffer, before in buffers:
            buffer.copy_(before)
        if rate == settings.learning_rate:
            return settings
        self.bearable = rate
        why = f"the network does not stand the rule's {settings.learning_rate:.2g}"
        return replace(settings, learning_rate=rate, learning_rate_why=why)

    def _measure(self, progress: float, overall: float) -> None:
        """The metric for the curve, at 20 moments; with a BatchNorm of the gates that were just sampled."""
        if overall * MEASUREMENTS >= self.measurements:
            self.measurements = int(overall * MEASUREMENTS) + 1
            self.phase.before_forward(progress)
            self.curve.measured(self._holdout.measure(self.subject.module))
