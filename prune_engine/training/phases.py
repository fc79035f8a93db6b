"""The phases of a training: gates open, then an exact mask. Each says what is done around a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from prune_engine.events import Stage
from prune_engine.gates import ChunkedAdam, FlatParameters
from prune_engine.gates.chunks import chunk_length, chunks
from prune_engine.methods import Method
from prune_engine.methods.schedules import one_cycle, pause
from prune_engine.state import State, load_optimiser, optimiser_state, part, prefixed, tensor_of
from prune_engine.training.regrow import Regrowth

NUDGE = 1e-7
"""Smallest magnitude of a kept weight; float16 can still hold it."""


class Phase(Protocol):
    """What is done around the forward and backward pass of a step, at `progress` in [0, 1)."""

    stage: Stage

    @property
    def density(self) -> float:
        """Density now."""

    def before_forward(self, progress: float) -> None:
        """Write what the module shall compute with."""

    def after_backward(self, progress: float) -> None:
        """Learn from the gradients that the backward pass has left in the parameters."""

    def state(self) -> State:
        """All that is trained and drawn, between two steps; references, not copies."""

    def load(self, state: State) -> None:
        """Go on from `state()`, to the same bits."""


class PruningPhase:
    """Weights and the method's gates are trained together, or the gates alone where nothing else `trains`."""

    stage: Stage = "pruning"

    def __init__(
        self,
        flat: FlatParameters,
        method: Method,
        learning_rate: float,
        weight_decay: float,
        *,
        trains: bool = True,
    ) -> None:
        self._trains = trains
        self._flat = flat
        self._method = method
        self.peak = learning_rate
        self._weight_decay = weight_decay
        self.optimiser = ChunkedAdam(flat.values)

    @property
    def density(self) -> float:
        """Density that the method's schedule asks for now."""
        return self._method.density

    def before_forward(self, progress: float) -> None:
        """Let the method write the gated weights."""
        self._method.before_forward(progress)
        self._flat.show_others()

    def after_backward(self, progress: float) -> None:
        """One step of Adam on the weights, and what the method learns."""
        rate = one_cycle(progress, self.peak)
        if self._trains:
            self.optimiser.begin(rate)
        learn = self._method.in_pieces(progress)
        if learn is None:
            gradient = self._flat.collect()
            self._method.after_backward(progress)
            self._update(slice(0, len(gradient)), gradient, None)
        else:
            for place, gradient in self._flat.pieces():
                self._update(place, gradient, learn if place.start < self._flat.prunable else None)
        if self._trains and self._weight_decay:
            self._flat.weights.mul_(1.0 - rate * self._weight_decay)

    def _update(self, place: slice, gradient: Tensor, learn: Callable[[slice, Tensor], None] | None) -> None:
        """Chunk by chunk, so that the optimisers find in the cache what the gates have just written."""
        device = gradient.device
        parts = torch.split(gradient, chunk_length(device))
        for chunk, piece in zip(chunks(place.start, place.stop, device), parts, strict=True):
            if learn is not None:
                learn(chunk, piece)
            if self._trains:
                self.optimiser.update(chunk, piece)

    def release(self) -> None:
        """Let go of what only training on with open gates needs; `load` brings it back."""
        self.optimiser.release()
        self._method.release()
        self._method.forget()

    def state(self) -> State:
        """Values, their optimiser, and the method's own state."""
        return {
            **self._flat.state(),
            **prefixed("adam", self.optimiser.state()),
            **prefixed("method", self._method.state()),
        }

    def load(self, state: State) -> None:
        """Go on from `state()`."""
        self._flat.load(state)
        self.optimiser.load(part(state, "adam"))
        self._method.load(part(state, "method"))


class FixedMaskPhase:
    """Only the kept weights, and what is not prunable, are trained.

    The kept weights are trained as a tensor of their own, so that a step costs less than a dense one.

    Args:
        flat: the parameters.
        mask: flat, bool, over the prunable weights.
        learning_rate: peak.
        weight_decay: decoupled, on prunable weights.
        before: the optimiser of the phase before; its moments are carried on, and gone from there.
        regrowth: exchanges kept weights for others until `fix`; None: the mask is fixed from the start.
        rate_pause: from where to where in the training the learning rate stands still.
        trains: False: no value changes any more.
    """

    def __init__(
        self,
        flat: FlatParameters,
        mask: Tensor,
        learning_rate: float,
        weight_decay: float,
        before: ChunkedAdam | None = None,
        *,
        regrowth: Regrowth | None = None,
        rate_pause: tuple[float, float] = (0.0, 0.0),
        trains: bool = True,
    ) -> None:
        self._trains = trains
        self.stage: Stage = "finetuning" if regrowth is None else "pruning"
        self._regrowth = regrowth
        self._pause = rate_pause
        self._flat = flat
        self._peak = learning_rate
        self._weight_decay = weight_decay
        others = torch.ones(flat.values.numel() - flat.prunable, dtype=torch.bool, device=mask.device)
        self._index = torch.nonzero(torch.cat([mask, others])).squeeze(1)
        self._kept = self._index.numel() - others.numel()
        self._values = flat.values[self._index]
        self.density = self._kept / flat.prunable
        self._optimiser = torch.optim.Adam([self._values], lr=learning_rate, fused=True)
        if before is not None and (moments := before.hand_over(self._index)):
            self._optimiser.state[self._values] = moments
        flat.shown[: flat.prunable].zero_()

    def before_forward(self, progress: float) -> None:
        """Write the trained values to their places."""
        self._flat.shown.index_copy_(0, self._index, self._values)

    def after_backward(self, progress: float) -> None:
        """One step of Adam on what is kept."""
        if not self._trains:
            self._flat.collect()
            return
        rate = one_cycle(pause(progress, *self._pause), self._peak)
        gradient = self._flat.collect()
        self._values.grad = gradient[self._index]
        self._optimiser.param_groups[0]["lr"] = rate
        self._optimiser.step()
        if self._weight_decay:
            self._values[: self._kept].mul_(1.0 - rate * self._weight_decay)
        if self._regrowth is not None:
            self._regrowth.note(gradient[: self._flat.prunable])
            if self._regrowth.due(progress):
                self._exchange(self._regrowth, progress)

    def _exchange(self, regrowth: Regrowth, progress: float) -> None:
        """Weights that come start at 0, without momentum, at the pace of those whose place they take."""
        index = self._index[: self._kept]
        goes, comes = regrowth.exchange(progress, index, self._values[: self._kept])
        self._flat.shown[index[goes]] = 0.0
        index[goes] = comes
        self._values[goes] = 0.0
        self._optimiser.state[self._values]["exp_avg"][goes] = 0.0

    def fix(self) -> Tensor:
        """Exchange no more weights from now on; the mask, flat, bool, over the prunable weights."""
        self.stage, self._regrowth = "finetuning", None
        self.finish()
        return self.mask()

    def mask(self) -> Tensor:
        """What is kept now: flat, bool, over the prunable weights."""
        mask = torch.zeros(self._flat.prunable, dtype=torch.bool, device=self._index.device)
        mask[self._index[: self._kept]] = True
        return mask

    def finish(self) -> None:
        """Show the trained values; kept weights nearer to zero than 1e-7 are moved there.

        Non-zero weights and kept weights are then the same set, whoever counts them, also in float16. Weights
        that are not trained stay what they are, zeros among them.
        """
        if self._trains:
            # In parts, as what lies between is as long as what is nudged.
            for kept in torch.split(self._values[: self._kept], chunk_length(self._values.device)):
                kept.copy_(torch.where(kept < 0.0, kept.clamp_max(-NUDGE), kept.clamp_min(NUDGE)))
        self._flat.shown.index_copy_(0, self._index, self._values)
        self._flat.values.copy_(self._flat.shown)

    def state(self) -> State:
        """What is kept, its values and their optimiser; and the sums for the exchange while there is one."""
        regrowth = {} if self._regrowth is None else prefixed("regrowth", self._regrowth.state())
        return {
            "index": self._index,
            "kept_values": self._values,
            **prefixed("adam", optimiser_state(self._optimiser, self._values)),
            **regrowth,
        }

    def load(self, state: State) -> None:
        """Go on from `state()` of a phase that keeps as many weights."""
        self._index.copy_(tensor_of(state, "index"))
        self._values.copy_(tensor_of(state, "kept_values"))
        load_optimiser(self._optimiser, self._values, part(state, "adam"))
        if self._regrowth is not None:
            self._regrowth.load(part(state, "regrowth"))
        self._flat.shown[: self._flat.prunable].zero_()
        self._flat.shown.index_copy_(0, self._index, self._values)
