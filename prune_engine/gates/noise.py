"""Logistic and Gumbel noise from a bank: drawn once, read at a random offset every step."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from prune_engine.state import State, tensor_of

SPARE = 1 << 18
SEGMENT = 1 << 20


class LogisticBank:
    """Standard logistic samples, the difference of two Gumbel samples.

    Fresh samples cost two logarithms a weight and step; a slice of a bank costs nothing. The bank is 2^18
    samples longer than a draw, so there are 2^18 different draws. It never has more than 2^20 beside those:
    a longer draw is several slices, each from an offset of its own.

    Args:
        size: samples a draw.
        scale: factor on the samples.
        seed: of the samples and of the offsets.
    """

    def __init__(self, size: int, scale: float, seed: int, device: torch.device) -> None:
        self._size = size
        self._offsets = random.Random(seed)  # noqa: S311 - noise, not a secret
        generator = torch.Generator().manual_seed(seed)
        uniform = torch.rand(min(size, SEGMENT) + SPARE, generator=generator).clamp_(1e-7, 1 - 1e-7)
        self._samples = self._quantile(uniform).mul_(scale).to(device)
        self._starts = [0] * -(-size // SEGMENT)

    @staticmethod
    def _quantile(uniform: Tensor) -> Tensor:
        """Uniform samples as those of the distribution; `uniform` may be overwritten."""
        return torch.logit(uniform)

    def shuffle(self) -> None:
        """Go on to the next draw."""
        self._starts = [self._offsets.randrange(SPARE + 1) for _ in self._starts]

    def piece(self, place: slice) -> Tensor:
        """The samples of the present draw at `place`, the same as often as they are asked for; not to be
        written to.
        """
        parts, at = [], place.start
        while at < place.stop:
            segment, first = divmod(at, SEGMENT)
            length = min(place.stop - at, SEGMENT - first)
            begin = self._starts[segment] + first
            parts.append(self._samples[begin : begin + length])
            at += length
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def draw(self) -> Tensor:
        """The next `size` samples: not to be written to."""
        self.shuffle()
        return self.piece(slice(0, self._size))

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
