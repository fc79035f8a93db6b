"""Binary gates on blocks of weights: one logit a block."""

from __future__ import annotations

import torch
from torch import Tensor

from prune_engine.gates.logistic import LogisticGates
from prune_engine.gates.units import Units
from prune_engine.state import State


class BlockGates:
    """A block is open as a whole where `logit + noise * L > 0` with L standard logistic.

    The same gates as `LogisticGates`, on blocks: the gradient of a block's gate is the sum over its weights.

    Attributes:
        logits: one a block, [blocks].
        gradient: of the loss by the logits, after `backward`.

    Args:
        logits: where the logits start.
        units: where the blocks are.
        noise: scale of the logistic noise, >= 0.
        temperature: of the straight-through gradient, > 0.
        seed: of the noise.
    """

    def __init__(self, logits: Tensor, units: Units, noise: float, temperature: float, seed: int) -> None:
        self._gates = LogisticGates(logits, noise, temperature, seed)
        self._units = units
        self._open = torch.ones_like(logits)
        self._ones = torch.ones_like(logits)
        self._scratch = torch.empty_like(logits)
        self._gate = torch.ones(units.count * units.size, dtype=logits.dtype, device=logits.device)
        self._product = torch.empty_like(self._gate)

    @property
    def logits(self) -> Tensor:
        """One a block, [blocks]."""
        return self._gates.logits

    @property
    def gradient(self) -> Tensor:
        """Of the loss by the logits, [blocks]."""
        return self._gates.gradient

    @property
    def noise(self) -> float:
        """Scale of the logistic noise."""
        return self._gates.noise

    def retune(self, noise: float, temperature: float) -> None:
        """Go on with another scale of the noise and another temperature."""
        self._gates.retune(noise, temperature)

    def hold(self, density: float) -> None:
        """Shift all logits so that the expected share of open blocks is `density`."""
        self._gates.hold(density)

    def apply(self, weights: Tensor, out: Tensor) -> None:
        """Sample the blocks and write `weights * gate` into `out` (flat, as long)."""
        self._gates.apply(self._ones, out=self._open)
        self._gate = self._units.expand(self._open)
        torch.mul(weights, self._gate, out=out)

    def backward(self, weights: Tensor, gradient: Tensor) -> None:
        """Turn g, the gradient of `weights * gate`, into that of the weights (in place) and of the logits.

        d/dweight = g * gate; d/dlogit = sum over the block (g * weight) * s (1 - s) / T.
        """
        torch.mul(weights, gradient, out=self._product)
        worth = self._units.gather(self._product).sum(1)
        self._scratch.fill_(1.0)
        self._gates.backward(worth, self._scratch)
        gradient.mul_(self._gate)

    def state(self) -> State:
        """Logits and noise."""
        return self._gates.state()

    def load(self, state: State) -> None:
        """Go on from `state()`."""
        self._gates.load(state)
