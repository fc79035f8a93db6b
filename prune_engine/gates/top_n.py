"""n:m gates where there are too many patterns to list: one logit a weight, Gumbel top-n in each group."""

from __future__ import annotations

import torch
from torch import Tensor

from prune_engine.gates.groups import GroupGates, largest
from prune_engine.gates.noise import GumbelBank
from prune_engine.gates.units import Units


class TopGates(GroupGates):
    """One logit a weight; the n highest of `logit + noise * G`, G standard Gumbel, of each group are drawn.

    The n highest of Gumbel-perturbed logits are n draws without replacement from their softmax (Kool et al.
    2019, arXiv 1903.06059). The gradient of the sample is that of `sigmoid((z - t) / T)` at
    z = logit + noise * G, with a threshold t half-way between the n-th and the next z that moves so that the
    sum over the group stays (straight-through): with s' = s (1 - s) it is s' (d - sum(s' d) / sum(s')) / T.

    Attributes:
        logits: one a weight, group after group, flat.
        gradient: of the loss by the logits, after `backward`.

    Args:
        importance: where the logits start, flat, in the order of the weights.
        units: where the groups are.
        n: weights that a group keeps.
        noise: scale of the Gumbel noise, >= 0.
        temperature: T, > 0.
        seed: of the noise.
    """

    def __init__(
        self, importance: Tensor, units: Units, n: int, noise: float, temperature: float, seed: int
    ) -> None:
        super().__init__(importance, units, n)
        self.logits = units.gather(importance).clone().reshape(-1)
        self.noise = noise
        self.temperature = temperature
        self.gradient = torch.zeros_like(self.logits)
        self._shape = (units.count, units.size)
        self._bank = GumbelBank(self.logits.numel(), noise, seed, importance.device) if noise else None
        self._noisy = torch.empty_like(self.logits)
        self._threshold = torch.zeros(units.count, 1, dtype=importance.dtype, device=importance.device)

    def _sample(self) -> Tensor:
        if self._bank is None:
            self._noisy.copy_(self.logits)
        else:
            torch.add(self.logits, self._bank.draw(), out=self._noisy)
        noisy = self._noisy.view(self._shape)
        highest, places = torch.topk(noisy, self._n + 1, dim=1, sorted=True)
        self._threshold = (highest[:, self._n - 1 : self._n] + highest[:, self._n :]) / 2
        return torch.zeros_like(noisy).scatter_(1, places[:, : self._n], 1.0)

    def _learn(self, worth: Tensor) -> None:
        soft = ((self._noisy.view(self._shape) - self._threshold) / self.temperature).sigmoid_()
        slope = soft * (1.0 - soft)
        tiny = torch.finfo(slope.dtype).tiny
        centre = (slope * worth).sum(1, keepdim=True) / slope.sum(1, keepdim=True).clamp_min(tiny)
        torch.mul(slope, worth - centre, out=self.gradient.view(self._shape))
        if self.temperature != 1.0:
            self.gradient.div_(self.temperature)

    def best(self) -> Tensor:
        """The n highest logits of each group, [groups, m], 0 and 1."""
        return largest(self.logits.view(self._shape), self._n)
