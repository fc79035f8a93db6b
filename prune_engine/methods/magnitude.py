"""Gradual magnitude pruning, the baseline that everybody knows."""

from __future__ import annotations

import torch
from torch import Tensor

from prune_engine.gates import FlatParameters, Layout, budgeted_mask, largest, most_kept
from prune_engine.granularity import Patterns
from prune_engine.methods.method import Method, MethodSettings
from prune_engine.methods.schedules import cubic_density
from prune_engine.state import State, tensor_of

UPDATES = 100


class Magnitude(Method):
    """The smallest weights of all layers together are removed step by step.

    Zhu & Gupta 2017, arXiv 1710.01878.

    The density falls cubically; the mask is drawn again at up to 100 moments of the schedule. Removed weights
    get no gradient, so they stay removed. Blocks go by the root of their sum of squares. Of n:m groups the
    n largest weights stay; the groups that lose the smallest sum of squares by that come first.
    """

    def __init__(self, flat: FlatParameters, settings: MethodSettings, layout: Layout | None = None) -> None:
        super().__init__(flat, settings, layout)
        self._open = torch.ones(flat.prunable, dtype=torch.bool, device=flat.values.device)
        self._density = 1.0
        self._updates = -1

    def retarget(self, settings: MethodSettings) -> None:
        """Go on to another density; the schedule begins anew from where it starts."""
        super().retarget(settings)
        self._updates = -1

    @property
    def density(self) -> float:
        """Density of the mask now."""
        return self._density

    def before_forward(self, progress: float) -> None:
        """Draw the mask again where the schedule asks for it, and show the weights under it."""
        share = min(max(self.settings.annealed(progress), 0.0), 1.0)
        update = int(share * UPDATES)
        if update > self._updates:
            self._updates = update
            self._density = cubic_density(
                update / UPDATES, self.settings.density, self.settings.start_density
            )
            self._open = self._draw(self._density)
        torch.mul(self.flat.weights, self._open, out=self.flat.shown[: self.flat.prunable])

    def after_backward(self, progress: float) -> None:
        """Weights under the mask alone have a gradient."""
        self.flat.gradient.mul_(self._open)

    def mask(self) -> Tensor:
        """The largest weights of those that are still there."""
        return self._draw(None)

    def state(self) -> State:
        """The mask now, and where the schedule is."""
        return {"open": self._open, "density": self._density, "updates": self._updates}

    def load(self, state: State) -> None:
        """Go on from `state()`."""
        self._open.copy_(tensor_of(state, "open"))
        self._density, self._updates = float(state["density"]), int(state["updates"])

    def _draw(self, density: float | None) -> Tensor:
        """The mask at a density on the way, or the final one."""
        sizes = self.flat.weights.abs().masked_fill_(~self._open, 0.0)
        if isinstance(self.layout.granularity, Patterns):
            return self._groups(sizes, density)
        scores = self.units.norms(sizes)
        kept = self.settings.kept // self.layout.size
        most = None
        if density is not None:
            kept = max(round(density * self.layout.units), kept)
            most = most_kept(self.layout, density, self.settings.density)
        scores.masked_fill_(~self.units.gather(self._open).any(1), -1.0)
        return self.units.expand(budgeted_mask(scores, kept, self.layout, most=most))

    def _groups(self, sizes: Tensor, density: float | None) -> Tensor:
        """n of m where so many groups are at n:m that the density is `density`; the others whole."""
        groups, target = self.units.gather(sizes), self.settings.density
        kept = largest(groups, self.settings.kept // self.layout.units)
        if density is None or density <= target:
            return self.units.scatter(kept.bool())
        lost = (groups.square() * (1.0 - kept)).sum(1)
        whole = round((density - target) / (1.0 - target) * len(groups))
        order = torch.argsort(lost, descending=True, stable=True)
        kept[order[:whole]] = 1.0
        return self.units.scatter(kept.bool())
