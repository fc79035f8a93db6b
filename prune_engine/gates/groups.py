"""What all n:m gates share: groups that are still whole, and groups that keep n of m."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from prune_engine.gates.noise import GumbelBank
from prune_engine.gates.units import Units
from prune_engine.state import State, part, prefixed, tensor_of


class GroupGates(ABC):
    """Gates on groups of m weights of which n are kept.

    The density comes down group by group: those that lose least by keeping n of m, judged by where they
    start, come first. A group that is still whole learns already which of its weights matter.

    Attributes:
        logits: flat, what is learned.
        gradient: of the loss by the logits, after `backward`.

    Args:
        importance: logarithm of how much a weight is worth at the start, flat.
        units: where the groups are.
        n: weights that a group keeps.
        noise: scale of the Gumbel noise, >= 0.
        temperature: T, > 0.
        seed: of the noise.
    """

    def __init__(
        self, importance: Tensor, units: Units, n: int, noise: float, temperature: float, seed: int
    ) -> None:
        self._units = units
        self.noise = noise
        self.temperature = temperature
        self._n = n
        groups = units.gather(importance)
        kept = largest(groups, n)
        lost = (groups.exp() * (1.0 - kept)).sum(1)
        order = torch.argsort(lost, stable=True)
        turn = torch.empty_like(lost)
        turn[order] = torch.arange(units.count, device=lost.device, dtype=lost.dtype) / units.count
        self._turn = turn.unsqueeze(1)
        self._share = 0.0
        self._mask = torch.ones(units.count, units.size, dtype=importance.dtype, device=importance.device)
        start = self._start(groups)
        self._shape = tuple(start.shape)
        self.logits = start.reshape(-1)
        self.gradient = torch.zeros_like(self.logits)
        self._noisy = torch.empty_like(self.logits)
        count = self.logits.numel()
        self._bank = GumbelBank(count, noise, seed, importance.device) if noise else None

    def hold(self, density: float) -> None:
        """Let so many groups keep n of m that the density is `density`, the others all of m."""
        target = self._n / self._units.size
        self._share = min(max((1.0 - density) / (1.0 - target), 0.0), 1.0)

    def apply(self, weights: Tensor, out: Tensor) -> None:
        """Sample the patterns and write `weights * gate` into `out` (flat, as long)."""
        self._mask = self._sample()
        if self._share < 1.0:
            self._mask = torch.where(self._turn < self._share, self._mask, 1.0)
        torch.mul(weights, self._units.scatter(self._mask), out=out)

    def backward(self, weights: Tensor, gradient: Tensor) -> None:
        """Turn g, the gradient of `weights * gate`, into that of the weights (in place) and of the logits.

        d/dweight = g * gate; the gradient by the mask of a group is g * weight.
        """
        self._learn(self._units.gather(weights * gradient))
        gradient.mul_(self._units.scatter(self._mask))

    def mask(self) -> Tensor:
        """The likeliest n of every m: flat, bool."""
        return self._units.scatter(self.best().bool())

    def _perturbed(self) -> Tensor:
        """`logit + noise * G` of a new sample, in the shape of `_start`; kept until the next."""
        if self._bank is None:
            self._noisy.copy_(self.logits)
        else:
            torch.add(self.logits, self._bank.draw(), out=self._noisy)
        return self._noisy.view(self._shape)

    @abstractmethod
    def _start(self, groups: Tensor) -> Tensor:
        """A new tensor of logits to start from, of two axes; `groups` is the importance, [groups, m]."""

    @abstractmethod
    def _sample(self) -> Tensor:
        """A mask that keeps n of m in every group, [groups, m], 0 and 1."""

    @abstractmethod
    def _learn(self, worth: Tensor) -> None:
        """Write the gradient of the last sample's logits; `worth` is that of the mask, [groups, m]."""

    @abstractmethod
    def best(self) -> Tensor:
        """The likeliest n of each group, [groups, m], 0 and 1."""

    def state(self) -> State:
        """Logits, noise, and how many groups keep n of m; the sample is not part of it."""
        noise = {} if self._bank is None else prefixed("noise", self._bank.state())
        return {"logits": self.logits, "share": self._share, **noise}

    def load(self, state: State) -> None:
        """Go on from `state()`."""
        self.logits.copy_(tensor_of(state, "logits"))
        self._share = float(state["share"])
        if self._bank is not None:
            self._bank.load(part(state, "noise"))


def largest(scores: Tensor, n: int) -> Tensor:
    """Where the n largest of each row are, [rows, m], 1 and 0; among equal ones the first."""
    order = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :n]
    return torch.zeros_like(scores).scatter_(1, order, 1.0)
