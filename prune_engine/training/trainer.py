"""The training of a pruning run, from the dense module to the exact density."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from prune_engine.events import Listener, StageEvent
from prune_engine.gates import FlatParameters
from prune_engine.methods import METHODS
from prune_engine.spec import PruneSpec
from prune_engine.training.batch_freedom import runs_at_any_batch
from prune_engine.training.batches import shuffled
from prune_engine.training.chosen import choose
from prune_engine.training.curve import Curve
from prune_engine.training.objective import Objective
from prune_engine.training.operations import row_operations
from prune_engine.training.phases import FixedMaskPhase, Phase, PruningPhase
from prune_engine.training.rate_probe import standing_rate
from prune_engine.training.regrow import Regrowth
from prune_engine.training.result import Trainable, TrainingResult
from prune_engine.training.settings import AUTO_RATE, Settings, outputs, resolve
from prune_engine.training.validation import HoldoutSample

if TYPE_CHECKING:
    from prune_engine.data import Prepared

MEASUREMENTS = 20
PROBE_SHARE = 0.2
"""Of `max_minutes`, what the search for the learning rate may take."""


def train(
    module: Trainable, prepared: Prepared, spec: PruneSpec, device: torch.device, emit: Listener
) -> TrainingResult:
    """Prune `module` to `spec.density` and fine-tune it; on return it holds the final weights.

    Weights are zero exactly where the mask is False. The same module, data, spec and number of threads give
    the same result bit for bit on a CPU, unless `max_minutes` cuts the training short. At density 1, unless
    epochs are asked for, nothing is trained and every value stays bit for bit.

    Raises:
        SpecError: the density keeps no weight, or `include` and `exclude` leave none.
        ModelError: the weights do not share one dtype.
        DivergedError: the loss became NaN or infinite.
    """
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        return _Training(module, prepared, spec, device, emit).run()


class _Training:
    def __init__(
        self, module: Trainable, prepared: Prepared, spec: PruneSpec, device: torch.device, emit: Listener
    ) -> None:
        self._started = time.monotonic()
        self._module = module
        self._prepared = replace(
            prepared, train=prepared.train.to(device), holdout=prepared.holdout.to(device)
        )
        if isinstance(module, torch.nn.Module):
            module.to(device)
        if self._free():
            self._prepared = replace(self._prepared, fixed_batch=None)
        self._emit = emit
        self._chosen = choose(module.prunable, spec)
        gated = [weight.name for weight in self._chosen.gated]
        self._flat = FlatParameters(module.weights, gated, device)
        self.settings = self._resolve(spec, device)
        self._batches = shuffled(len(prepared.train), self.settings.batch_size, spec.seed, device)
        self._curve = Curve(
            self.settings.total_steps, self.settings.steps_per_epoch, emit, prepared.metric.name
        )
        self._step = 0
        self._measurements = 0

    def _free(self) -> bool:
        """Whether the file names a batch size that the module does not hold to."""
        fixed = self._prepared.fixed_batch
        if fixed is None:
            return False
        rows = torch.arange(2 * fixed) % len(self._prepared.train)
        return runs_at_any_batch(self._module, self._prepared.train.batch(rows)[0], fixed)

    def _resolve(self, spec: PruneSpec, device: torch.device) -> Settings:
        train = self._prepared.train
        fixed = self._prepared.fixed_batch
        inputs, labels = train.batch(torch.arange(fixed or 2) % len(train))
        return resolve(
            spec,
            prunable=self._flat.prunable,
            neurons=sum(outputs(weight) for weight in self._chosen.gated),
            rows=len(train),
            fixed_batch=fixed,
            labelled=labels is not None and self._prepared.task != "distillation",
            row_operations=row_operations(self._module, inputs),
            device=device.type,
        )

    def run(self) -> TrainingResult:
        """Both phases, one after the other."""
        settings = self.settings
        if settings.total_steps == 0:
            return self._untouched()
        prunes = settings.gates.kept < self._flat.prunable
        self._emit(StageEvent(stage="pruning", message=_announcement(settings)))
        self._holdout = HoldoutSample(self._module, self._prepared)
        self._objective = Objective(
            self._module,
            self._prepared,
            settings.distillation,
            settings.distillation_temperature,
            settings.total_steps * settings.batch_size,
        )
        self._module.train()
        if settings.learning_rate_why == AUTO_RATE:
            settings = self.settings = self._probe(settings)
        method = METHODS[settings.method](self._flat, settings.gates)
        pruning = PruningPhase(self._flat, method, settings.learning_rate, settings.weight_decay)
        if prunes:
            self._train(pruning, until=settings.gates_until)
        regrowth = self._regrowth(settings) if prunes else None
        finetuning = FixedMaskPhase(
            self._flat,
            method.mask(),
            settings.learning_rate,
            settings.weight_decay,
            pruning.optimiser,
            regrowth=regrowth,
            rate_pause=settings.rate_pause,
        )
        if regrowth is not None:
            self._train(finetuning, until=settings.gates.fix_mask_at)
        mask = finetuning.fix()
        fixed_at = time.monotonic()
        before_finetuning = self._state()
        self._emit(StageEvent(stage="finetuning", message=f"mask fixed: {settings.gates.kept} weights kept"))
        self._train(finetuning, until=1.0)
        finetuning.finish()
        self._module.eval()
        return TrainingResult(
            masks=self._flat.split_mask(mask),
            before_finetuning=before_finetuning,
            curve=self._curve.points,
            settings={**settings.as_dict(), "steps_done": self._step},
            warnings=self._warnings(),
            durations={"pruning": fixed_at - self._started, "finetuning": time.monotonic() - fixed_at},
        )

    def _untouched(self) -> TrainingResult:
        """The module as it came, every weight kept."""
        self._emit(StageEvent(stage="pruning", message=self.settings.epochs_why))
        self._module.eval()
        everything = torch.ones(self._flat.prunable, dtype=torch.bool)
        return TrainingResult(
            masks=self._flat.split_mask(everything),
            before_finetuning=self._state(),
            curve=self._curve.points,
            settings={**self.settings.as_dict(), "steps_done": 0},
            warnings=[],
            durations={"pruning": time.monotonic() - self._started, "finetuning": 0.0},
        )

    def _regrowth(self, settings: Settings) -> Regrowth | None:
        start, until = settings.gates_until, settings.gates.fix_mask_at
        if start >= until or not settings.regrow:
            return None
        return Regrowth(self._flat.prunable, settings.regrow, start, until, self._flat.values.device)

    def _probe(self, settings: Settings) -> Settings:
        """Lower the learning rate where the network would not stand it; leaves the module as it was."""
        assert isinstance(self._module, torch.nn.Module)  # noqa: S101 - every module with parameters is one
        buffers = [(buffer, buffer.clone()) for buffer in self._module.buffers()]
        batches = shuffled(
            len(self._prepared.train), settings.batch_size, settings.seed + 1, self._flat.values.device
        )
        until = self._started + PROBE_SHARE * 60.0 * (settings.max_minutes or math.inf)
        rate = standing_rate(self._flat, self._objective, batches, settings.learning_rate, until)
        for buffer, before in buffers:
            buffer.copy_(before)
        if rate == settings.learning_rate:
            return settings
        why = f"the network does not stand the rule's {settings.learning_rate:.2g}"
        return replace(settings, learning_rate=rate, learning_rate_why=why)

    def _train(self, phase: Phase, until: float) -> None:
        """Step after step until `until` of the whole training is done."""
        for index in self._batches:
            progress = self._progress()
            if progress >= until:
                break
            phase.before_forward(progress)
            loss = self._objective.backward(index)
            phase.after_backward(progress)
            self._step += 1
            self._curve.step(self._step, loss, phase.stage, phase.density, self._progress())
            self._measure(phase, progress)

    def _progress(self) -> float:
        """Share of the training that is done: of the steps, or of the time where that runs out first."""
        settings = self.settings
        done = self._step / settings.total_steps
        if settings.max_minutes is not None:
            elapsed = (time.monotonic() - self._started) / (60.0 * settings.max_minutes)
            done = max(done, min(elapsed, 1.0))
        return done

    def _measure(self, phase: Phase, progress: float) -> None:
        """The metric for the curve, at 20 moments; with a BatchNorm of the gates that were just sampled."""
        if progress * MEASUREMENTS >= self._measurements:
            self._measurements = int(progress * MEASUREMENTS) + 1
            phase.before_forward(progress)
            self._curve.measured(self._holdout.measure(self._module))

    def _state(self) -> dict[str, np.ndarray]:
        return {name: np.array(value) for name, value in self._module.state_values().items()}

    def _warnings(self) -> list[str]:
        if self._step < self.settings.total_steps:
            return [
                f"max_minutes: the training was cut to {self._step} of {self.settings.total_steps} steps; "
                "give it more time for a better result"
            ]
        return []


def _announcement(settings: Settings) -> str:
    return (
        f"{settings.method} to density {settings.gates.density:g}: {settings.gates.kept} weights, "
        f"{settings.epochs} epochs of {settings.steps_per_epoch} steps"
    )
