"""Pruning by gradient descent: learned gates on weights, blocks or n:m groups, density held by one shift."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from prune_engine.gates import (
    BlockGates,
    ChunkedAdam,
    FlatParameters,
    GroupGates,
    Layout,
    LogisticGates,
    budgeted_mask,
    build_gates,
    hold_within,
)
from prune_engine.gates.chunks import Views
from prune_engine.granularity import Blocks
from prune_engine.methods.method import Method, MethodSettings
from prune_engine.methods.prior import prior_logits
from prune_engine.methods.schedules import log_linear_density, one_cycle
from prune_engine.state import State, part, prefixed

START_DENSITY = 0.995
HOLD_EVERY = 8
NOTICEABLE = 0.97
"""A density that has fallen by more than 3 % is not left for the eighth step: short trainings fall fast."""


class Gumbel(Method):
    """Weights and topology are trained together by gradient descent.

    Zhang, Tao, Zhang 2023, arXiv 2311.12526.

    Differences from the paper, each for a weak point of it: the expected density is held on its schedule by
    one shift of all logits found by bisection (as ProbMask projects, Zhou 2021) instead of by a penalty whose
    strength must be tuned; one sample a step; gates start open, so that a trained network is not destroyed.
    """

    def __init__(self, flat: FlatParameters, settings: MethodSettings, layout: Layout | None = None) -> None:
        super().__init__(flat, settings, layout)
        self.gates = build_gates(
            self.layout,
            self.units,
            prior_logits(self._prunable_parts(), settings.gate_prior),
            settings.gate_noise,
            settings.gate_temperature,
            settings.seed,
        )
        self._weights = Views(flat.weights)
        self._optimiser = ChunkedAdam(self.gates.logits, settings.gate_epsilon)
        self._room = self.gates.logits.untyped_storage().nbytes()
        self._density = START_DENSITY
        self._step = 0

    def retarget(self, settings: MethodSettings) -> None:
        """Go on to another density, with the noise and the temperature that belong to it."""
        super().retarget(settings)
        if isinstance(self.gates, LogisticGates | BlockGates):
            self.gates.retune(settings.gate_noise, settings.gate_temperature)

    def _prunable_parts(self) -> list[Tensor]:
        """What has an order of its own in each layer: the blocks' norms, else the weights."""
        weights = self.flat.weights
        if isinstance(self.layout.granularity, Blocks):
            sizes = [layer.units for layer in self.layout.layers]
            return list(torch.split(self.units.norms(weights), sizes))
        return self.flat.layers(weights)

    @property
    def density(self) -> float:
        """Density that the schedule asks for now."""
        return self._density

    def before_forward(self, progress: float) -> None:
        """Hold the density and sample the gates."""
        settings = self.settings
        target = log_linear_density(settings.annealed(progress), settings.density, settings.start_density)
        if self._step % HOLD_EVERY == 0 or target < NOTICEABLE * self._density:
            self._density = min(target, START_DENSITY)
            self._hold()
        self._step += 1
        self.gates.apply(self.flat.weights, out=self.flat.shown[: self.flat.prunable])

    def _hold(self) -> None:
        gates, target = self.gates, self.settings.density
        if self.layout.bounded and not isinstance(gates, GroupGates):
            hold_within(gates.logits, self.layout, self._density, target, self.settings.gate_noise)
        else:
            gates.hold(self._density)

    def after_backward(self, progress: float) -> None:
        """One step of Adam on the logits; the weights get the gradient of their open gates."""
        self.gates.backward(self.flat.weights, self.flat.gradient)
        self._optimiser.begin(self._rate(progress))
        self._optimiser.update(slice(0, self.gates.logits.numel()), self.gates.gradient)

    def in_pieces(self, progress: float) -> Callable[[slice, Tensor], None] | None:
        """The same for single weights without a gradient that would be as long as all of them."""
        gates = self.gates
        if not isinstance(gates, LogisticGates):
            return None
        # The gradient comes times T, which in Adam is the same as an epsilon times T.
        self._optimiser.epsilon = self.settings.gate_epsilon * gates.temperature
        self._optimiser.begin(self._rate(progress))
        weights = self._weights

        def learn(place: slice, gradient: Tensor) -> None:
            self._optimiser.update(place, gates.turn(place, weights[place], gradient))

        return learn

    def release(self) -> None:
        """Let go of Adam's moments."""
        self._optimiser.release()

    def forget(self) -> None:
        """Let go of the logits too: of their memory, which every view of them shares."""
        storage = self.gates.logits.untyped_storage()
        if storage.resizable():
            storage.resize_(0)

    def _rate(self, progress: float) -> float:
        return one_cycle(progress, self.settings.gate_learning_rate)

    def mask(self) -> Tensor:
        """The gates of the highest logits; among equal ones those of the largest weights."""
        if isinstance(self.gates, GroupGates):
            return self.gates.mask()
        kept, logits = self.settings.kept // self.layout.size, self.gates.logits
        mask = budgeted_mask(logits, kept, self.layout, lambda: self.units.norms(self.flat.weights))
        return self.units.expand(mask)

    def state(self) -> State:
        """Gates, Adam's moments of their logits, and where the schedule is."""
        return {
            "density": self._density,
            "step": self._step,
            **prefixed("gates", self.gates.state()),
            **prefixed("adam", self._optimiser.state()),
        }

    def load(self, state: State) -> None:
        """Go on from `state()`."""
        self._density, self._step = float(state["density"]), int(state["step"])
        storage = self.gates.logits.untyped_storage()
        if storage.nbytes() != self._room:
            storage.resize_(self._room)
        self.gates.load(part(state, "gates"))
        self._optimiser.load(part(state, "adam"))
