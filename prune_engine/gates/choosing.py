"""The learned gates of a layout: one kind for each granularity, all with one face."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from prune_engine.gates.blocks import BlockGates
from prune_engine.gates.layout import Layout
from prune_engine.gates.logistic import LogisticGates
from prune_engine.gates.patterns import PatternGates, few_patterns
from prune_engine.gates.top_n import TopGates
from prune_engine.gates.units import Units
from prune_engine.granularity import Blocks, Patterns
from prune_engine.state import State


class Gates(Protocol):
    """What a step does with gates, whatever they open and close."""

    @property
    def logits(self) -> Tensor:
        """What is learned, flat."""

    @property
    def gradient(self) -> Tensor:
        """Of the loss by the logits, after `backward`."""

    def hold(self, density: float) -> None:
        """Bring the expected density to `density`."""

    def apply(self, weights: Tensor, out: Tensor) -> None:
        """Sample the gates and write `weights * gate` into `out`."""

    def backward(self, weights: Tensor, gradient: Tensor) -> None:
        """Turn the gradient of `weights * gate` into that of the weights, in place, and of the logits."""

    def state(self) -> State:
        """All that was learned and drawn."""

    def load(self, state: State) -> None:
        """Go on from `state()`."""


def build_gates(
    layout: Layout, units: Units, importance: Tensor, noise: float, temperature: float, seed: int
) -> Gates:
    """The gates of a layout.

    Args:
        layout: what is kept or goes as one.
        units: where it is in the flat tensor.
        importance: where logits start: of the blocks, else of the weights, flat.
        noise: scale of the noise, >= 0.
        temperature: of the straight-through gradient, > 0.
        seed: of the noise.
    """
    granularity = layout.granularity
    if isinstance(granularity, Patterns):
        kind: type[PatternGates | TopGates] = (
            PatternGates if few_patterns(granularity.n, granularity.m) else TopGates
        )
        return kind(importance, units, granularity.n, noise, temperature, seed)
    if isinstance(granularity, Blocks):
        return BlockGates(importance, units, noise, temperature, seed)
    return LogisticGates(importance, noise, temperature, seed)
