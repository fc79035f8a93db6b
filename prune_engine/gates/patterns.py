"""n:m gates: of every m weights n are kept, the pattern of each group drawn from a learned distribution."""

from __future__ import annotations

from itertools import combinations
from math import comb

import torch
from torch import Tensor

from prune_engine.gates.groups import GroupGates

MOST_PATTERNS = 128
"""Patterns a group above which `gates/top_n.py` is used: one logit a weight instead of one a pattern."""


def few_patterns(n: int, m: int) -> bool:
    """Whether the patterns of n:m can be listed."""
    return comb(m, n) <= MOST_PATTERNS


def patterns_of(n: int, m: int) -> Tensor:
    """Every way to keep n of m, [C(m, n), m], 0 and 1."""
    found = torch.zeros(comb(m, n), m)
    for row, kept in enumerate(combinations(range(m), n)):
        found[row, list(kept)] = 1.0
    return found


class PatternGates(GroupGates):
    """One logit a pattern of a group; the highest of `logit + noise * G`, G standard Gumbel, is drawn.

    The categorical Gumbel-Softmax with hard samples: with y = softmax(z / T) at z = logits + noise * G, the
    mask is the pattern of the largest z, and its gradient that of `y @ patterns` (straight-through). As
    MaskLLM (Fang et al. 2024, arXiv 2409.17481, section 3), but for the scale of the logits, which is 1, and
    the soft mask, which is hard here.

    Patterns come first, so that what is done over them runs along the groups: on a CPU a softmax over a short
    last axis takes a hundred times as long.

    Attributes:
        logits: [patterns, groups], flat.
        gradient: of the loss by the logits, after `backward`.
    """

    def _start(self, groups: Tensor) -> Tensor:
        """A pattern starts with the sum over the weights that it keeps, [patterns, groups]."""
        self._patterns = patterns_of(self._n, self._units.size).to(groups)
        return self._patterns @ (groups - groups.mean(1, keepdim=True)).T

    def _sample(self) -> Tensor:
        return self._patterns.index_select(0, self._perturbed().max(0).indices)

    def _learn(self, worth: Tensor) -> None:
        """d/dz = y * (d - sum(y * d)) / T with d = patterns @ worth^T, the gradient by y."""
        soft = torch.softmax(self._noisy.div_(self.temperature).view(self._shape), 0)
        by_pattern = self._patterns @ worth.T
        centre = (soft * by_pattern).sum(0)
        torch.mul(soft, by_pattern.sub_(centre), out=self.gradient.view(self._shape))
        if self.temperature != 1.0:
            self.gradient.div_(self.temperature)

    def best(self) -> Tensor:
        """The likeliest pattern of each group, [groups, m], 0 and 1."""
        return self._patterns.index_select(0, self.logits.view(self._shape).max(0).indices)
