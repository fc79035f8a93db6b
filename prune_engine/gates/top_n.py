"""n:m gates where there are too many patterns to list: one logit a weight, Gumbel top-n in each group."""

from __future__ import annotations

import torch
from torch import Tensor

from prune_engine.gates.groups import GroupGates, largest


class TopGates(GroupGates):
    """One logit a weight; the n highest of `logit + noise * G`, G standard Gumbel, of each group are drawn.

    The n highest of Gumbel-perturbed logits are n draws without replacement from their softmax (Kool et al.
    2019, arXiv 1903.06059). The gradient of the sample is that of `sigmoid((z - t) / T)` at
    z = logit + noise * G, with a threshold t half-way between the n-th and the next z that moves so that the
    sum over the group stays (straight-through): with s' = s (1 - s) it is s' (d - sum(s' d) / sum(s')) / T.

    Attributes:
        logits: one a weight, group after group, flat.
        gradient: of the loss by the logits, after `backward`.
    """

    def _start(self, groups: Tensor) -> Tensor:
        """The importance itself, [groups, m]."""
        self._threshold = groups.new_zeros(len(groups), 1)
        return groups.clone()

    def _sample(self) -> Tensor:
        noisy = self._perturbed()
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
