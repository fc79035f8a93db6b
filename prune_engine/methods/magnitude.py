"""Gradual magnitude pruning, the baseline that everybody knows."""

from __future__ import annotations

import torch
from torch import Tensor

from prune_engine.gates import FlatParameters, exact_mask
from prune_engine.methods.method import Method, MethodSettings
from prune_engine.methods.schedules import cubic_density
from prune_engine.state import State, tensor_of

UPDATES = 100


class Magnitude(Method):
    """The smallest weights of all layers together are removed step by step.

    Zhu & Gupta 2017, arXiv 1710.01878.

    The density falls cubically; the mask is drawn again at up to 100 moments of the schedule. Removed weights
    get no gradient, so they stay removed.
    """

    def __init__(self, flat: FlatParameters, settings: MethodSettings) -> None:
        super().__init__(flat, settings)
        self._open = torch.ones(flat.prunable, dtype=torch.bool, device=flat.values.device)
        self._density = 1.0
        self._updates = -1

    @property
    def density(self) -> float:
        """Density of the mask now."""
        return self._density

    def before_forward(self, progress: float) -> None:
        """Draw the mask again where the schedule asks for it, and show the weights under it."""
        share = min(progress / max(self.settings.anneal_until, 1e-9), 1.0)
        update = int(share * UPDATES)
        if update > self._updates:
            self._updates = update
            self._density = cubic_density(update / UPDATES, self.settings.density)
            kept = max(round(self._density * self.flat.prunable), self.settings.kept)
            self._open = exact_mask(self._scores(), kept)
        torch.mul(self.flat.weights, self._open, out=self.flat.shown[: self.flat.prunable])

    def after_backward(self, progress: float) -> None:
        """Weights under the mask alone have a gradient."""
        self.flat.gradient.mul_(self._open)

    def mask(self) -> Tensor:
        """The largest weights of those that are still there."""
        return exact_mask(self._scores(), self.settings.kept)

    def state(self) -> State:
        """The mask now, and where the schedule is."""
        return {"open": self._open, "density": self._density, "updates": self._updates}

    def load(self, state: State) -> None:
        """Go on from `state()`."""
        self._open.copy_(tensor_of(state, "open"))
        self._density, self._updates = float(state["density"]), int(state["updates"])

    def _scores(self) -> Tensor:
        return self.flat.weights.abs().masked_fill_(~self._open, -1.0)
