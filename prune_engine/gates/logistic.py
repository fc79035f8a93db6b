"""Binary gates on single weights: logistic noise, hard samples, straight-through gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from prune_engine.gates.budget import density_shift
from prune_engine.gates.noise import LogisticBank


class LogisticGates:
    """One logit a weight; a gate is open where `logit + noise * L > 0` with L standard logistic.

    This is the two-class Gumbel-Softmax with hard samples (Jang 2017; Zhang, Tao, Zhang 2023, section 2): the
    difference of two Gumbel samples is one logistic sample, so one logit a gate is enough. The gradient of
    the sample is that of `sigmoid(z / T)` at `z = logit + noise * L` (straight-through).

    Attributes:
        logits: flat; the shift that holds the density is part of them.
        gradient: flat; of the loss by the logits, after `backward`.
        open: flat, bool; the gates of the last sample.

    Args:
        logits: where the logits start, flat.
        noise: scale of the logistic noise, >= 0.
        temperature: T, > 0.
        seed: of the noise.
    """

    def __init__(self, logits: Tensor, noise: float, temperature: float, seed: int) -> None:
        self.logits = logits
        self.noise = noise
        self.temperature = temperature
        self.gradient = torch.zeros_like(logits)
        self.open = torch.ones_like(logits, dtype=torch.bool)
        self._bank = LogisticBank(logits.numel(), noise, seed, logits.device) if noise else None
        self._soft = torch.empty_like(logits)

    def hold(self, density: float, *, within: float | None = None) -> None:
        """Shift all logits so that the expected density is `density` (see `density_shift`)."""
        steps = 24 if within is None else 10
        self.logits.add_(density_shift(self.logits, density, self.noise, within=within, steps=steps))

    def apply(self, weights: Tensor, out: Tensor) -> None:
        """Sample the gates and write `weights * gate` into `out` (flat, as long)."""
        if self._bank is None:
            self._soft.copy_(self.logits)
        else:
            torch.add(self.logits, self._bank.draw(), out=self._soft)
        torch.gt(self._soft, 0.0, out=self.open)
        torch.mul(weights, self.open, out=out)

    def backward(self, weights: Tensor, gradient: Tensor) -> None:
        """Turn g, the gradient of `weights * gate`, into that of the weights (in place) and of the logits.

        d/dweight = g * gate; d/dlogit = g * weight * s (1 - s) / T with s = sigmoid(z / T).
        """
        soft = self._soft.div_(self.temperature).sigmoid_()
        torch.mul(weights, gradient, out=self.gradient)
        torch.ops.aten.sigmoid_backward.grad_input(self.gradient, soft, grad_input=self.gradient)
        self.gradient.div_(self.temperature)
        gradient.mul_(self.open)
