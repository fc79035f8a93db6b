"""Weights that are missed little make room for ones that the loss asks for, while the density is exact.

After RigL (Evci et al. 2020, arXiv 1911.11134): drop, then grow where the gradient is largest, as many as
were dropped. Four things are different, each measured in `benchmarks/lab-book.md`. What is dropped is chosen
by the second-order cost of its loss instead of by magnitude, which cannot be compared between inputs of
different size. What is grown is chosen by a gradient that is summed over many steps and stands out of its own
noise. An output gets two weights at a time, as those that it asks for most ask for the same: one of its
neighbouring pixels does what the others would. And the learning rate does not fall meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from prune_engine.gates.fitting import MatrixWeight
from prune_engine.state import State, tensor_of

FEWEST_UPDATES, MOST_UPDATES = 17, 50
STEPS_BETWEEN = 100
FEWEST_STEPS = 20
"""Steps that an update looks at, at least: fewer gradients say little of what is missed."""

AN_OUTPUT = 2
"""Weights that one exchange gives to an output, at most."""

LOOKED_AT = 30
"""Candidates for each weight that comes."""


def updates_in(steps: int) -> int:
    """How many exchanges `steps` training steps are worth: one in a hundred, 17 to 50."""
    return min(max(steps // STEPS_BETWEEN, FEWEST_UPDATES), MOST_UPDATES)


class Regrowth:
    """Decides which kept weights are exchanged for which others, and when.

    Args:
        prunable: prunable weights of the model.
        share: of the kept weights that the first update exchanges; falls to 0 by a cosine.
        start: progress at which the exchange begins.
        until: progress from which nothing is exchanged.
        device: where the sums live.
        layers: the prunable weights, in order: none gives away its last kept value, and no output of one gets
            more than two at a time.
        updates: how many exchanges there are.
    """

    def __init__(
        self,
        prunable: int,
        share: float,
        start: float,
        until: float,
        device: torch.device,
        layers: Sequence[MatrixWeight] = (),
        updates: int = FEWEST_UPDATES,
    ) -> None:
        self._updates = updates
        self._share = share
        self._layers = tuple(layers)
        self._start = start
        self._until = until
        self._sum = torch.zeros(prunable, device=device)
        self._squares = torch.zeros(prunable, device=device)
        self._steps = 0
        self._updated = start

    def note(self, gradient: Tensor) -> None:
        """Add up a step's gradient of all prunable weights, flat, kept or not."""
        gradient = gradient.float()
        self._sum.add_(gradient)
        self._squares.addcmul_(gradient, gradient)
        self._steps += 1

    def due(self, progress: float) -> bool:
        """Whether `progress` is the moment for an exchange."""
        span = self._until - self._start
        return (
            progress < self._until
            and self._steps >= FEWEST_STEPS
            and progress - self._updated >= span / self._updates - 1e-9
        )

    def exchange(self, progress: float, index: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """What goes and what comes, equally many; the sums start again.

        A kept weight w costs w^2 times its summed squared gradients: the loss that its removal adds, by the
        diagonal of the Fisher matrix (Theis et al. 2018, arXiv 1801.05787). Another weight gains
        |sum of gradients| over the root of the sum of squares plus that root's mean over all weights; one
        without a gradient never comes.

        Args:
            progress: share of the training that is done.
            index: places of the kept weights among all prunable ones.
            weights: their values.

        Returns:
            Positions in `index` that go, and the places that come.
        """
        spread = self._squares.sqrt()
        gains = self._sum.abs() / (spread + spread.mean()).clamp_min(torch.finfo(spread.dtype).tiny)
        gains[index] = -1.0
        done = (progress - self._start) / (self._until - self._start)
        share = self._share * (0.5 + 0.5 * math.cos(math.pi * done))
        count = min(round(len(index) * share), len(gains) - len(index))
        best, comes = torch.topk(gains, min(LOOKED_AT * count, len(gains) - len(index)))
        comes = self._spread(comes[best > 0.0])[:count]
        costs = weights.float().square() * self._squares[index]
        comes = comes[: len(index) - self._keep_layers(index, costs)]
        goes = torch.topk(costs, len(comes), largest=False).indices
        self._sum.zero_()
        self._squares.zero_()
        self._steps = 0
        self._updated = progress
        return goes, comes

    def _spread(self, places: Tensor) -> Tensor:
        """Of `places`, best first, the first two of each output."""
        if not self._layers:
            return places
        outputs = torch.zeros_like(places)
        start = before = 0
        for layer in self._layers:
            axis, shape = layer.output_axis, layer.shape
            inside = (places >= start) & (places < start + math.prod(shape))
            output = (places - start) // math.prod(shape[axis + 1 :]) % shape[axis]
            outputs = torch.where(inside, before + output, outputs)
            start, before = start + math.prod(shape), before + shape[axis]
        grouped, order = torch.sort(outputs, stable=True)
        counted = torch.arange(len(places), device=places.device)
        rank = counted - torch.searchsorted(grouped, grouped)
        return places[order[rank < AN_OUTPUT].sort().values]

    def _keep_layers(self, index: Tensor, costs: Tensor) -> int:
        """Make the dearest weight of each layer priceless; how many there are."""
        start = priceless = 0
        for layer in self._layers:
            size = math.prod(layer.shape)
            places = torch.nonzero((index >= start) & (index < start + size)).squeeze(1)
            if len(places):
                costs[places[costs[places].argmax()]] = math.inf
                priceless += 1
            start += size
        return priceless

    def state(self) -> State:
        """The sums, and when weights were last exchanged."""
        return {
            "sum": self._sum,
            "squares": self._squares,
            "steps": self._steps,
            "updated": self._updated,
        }

    def load(self, state: State) -> None:
        """Go on from `state()`."""
        self._sum.copy_(tensor_of(state, "sum"))
        self._squares.copy_(tensor_of(state, "squares"))
        self._steps, self._updated = int(state["steps"]), float(state["updated"])
