"""Logistic and Gumbel noise from a bank: drawn once, read at a random offset every step."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from prune_engine.state import State, tensor_of

SPARE = 1 << 18


class LogisticBank:
    """Standard logistic samples, the difference of two Gumbel samples.

    Fresh samples cost two logarithms a weight and step; a slice of a bank costs nothing. The bank is 2^18
    samples longer than a draw, so there are 2^18 different draws.

    Args:
        size: samples a draw.
        scale: factor on the samples.
        seed: of the samples and of the offsets.
    """

    def __init__(self, size: int, scale: float, seed: int, device: torch.device) -> None:
        self._size = size
        self._offsets = random.Random(seed)  # noqa: S311 - noise, not a secret
        generator = torch.Generator().manual_seed(seed)
        uniform = torch.rand(size + SPARE, generator=generator).clamp_(1e-7, 1 - 1e-7)
        self._samples = self._quantile(uniform).mul_(scale).to(device)

    @staticmethod
    def _quantile(uniform: Tensor) -> Tensor:
        """Uniform samples as those of the distribution; `uniform` may be overwritten."""
        return torch.logit(uniform)

    def draw(self) -> Tensor:
        """The next `size` samples, a view of the bank: not to be written to."""
        offset = self._offsets.randrange(SPARE + 1)
        return self._samples[offset : offset + self._size]

    def rescale(self, factor: float) -> None:
        """Let all samples from now on be `factor` times as large."""
        self._samples.mul_(factor)

    def state(self) -> State:
        """Where the offsets go on."""
        version, words, _ = self._offsets.getstate()
        return {"version": version, "words": torch.tensor(words, dtype=torch.int64)}

    def load(self, state: State) -> None:
        """Go on with the offsets that followed `state()`."""
        self._offsets.setstate((int(state["version"]), tuple(tensor_of(state, "words").tolist()), None))


class GumbelBank(LogisticBank):
    """Standard Gumbel samples: with them the highest of several logits is a sample of their softmax."""

    @staticmethod
    def _quantile(uniform: Tensor) -> Tensor:
        return uniform.log_().neg_().log_().neg_()
