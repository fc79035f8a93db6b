"""Binary gates on single weights: logistic noise, hard samples, straight-through gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from prune_engine.gates.budget import BISECTIONS, density_shift
from prune_engine.gates.noise import LogisticBank
from prune_engine.state import State, part, prefixed, tensor_of

FOLLOWING = 11
"""Bisections where the shift is nearly known: to a thousandth of a logit."""
NEAR = 1.0
EDGE = 0.99
"""A shift found beyond this share of the interval may lie outside of it."""


class LogisticGates:
    """One logit a weight; a gate is open where `logit + noise * L > 0` with L standard logistic.

    This is the two-class Gumbel-Softmax with hard samples (Jang 2017; Zhang, Tao, Zhang 2023, section 2): the
    difference of two Gumbel samples is one logistic sample, so one logit a gate is enough. The gradient of
    the sample is that of `sigmoid(z / T)` at `z = logit + noise * L` (straight-through).

    Attributes:
        logits: flat; the shift that holds the density is part of them.
        gradient: flat; of the loss by the logits, after `backward`.

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
        self._seed = seed
        self._bank = LogisticBank(logits.numel(), noise, seed, logits.device) if noise else None
        self._noisy = torch.ones_like(logits)
        self._soft = torch.empty_like(logits)
        self._held = False

    @property
    def open(self) -> Tensor:
        """The gates of the last sample: flat, bool."""
        return self._noisy > 0.0

    def retune(self, noise: float, temperature: float) -> None:
        """Go on with another scale of the noise and another temperature."""
        if self._bank is not None and noise:
            self._bank.rescale(noise / self.noise)
        elif noise != self.noise:
            size, device = self.logits.numel(), self.logits.device
            self._bank = LogisticBank(size, noise, self._seed, device) if noise else None
        self.noise, self.temperature = noise, temperature

    def hold(self, density: float) -> None:
        """Shift all logits so that the expected density is `density` (see `density_shift`).

        After the first time the shift is looked for within a unit of logits, which is more than a few steps
        move it in a training of usual length, and everywhere only where that was too little. A device that
        would have to be asked for the outcome looks everywhere at once.
        """
        if self._held and self.logits.device.type == "cpu":
            shift = density_shift(self.logits, density, self.noise, within=NEAR, steps=FOLLOWING)
            if abs(float(shift)) < EDGE * NEAR:
                self.logits.add_(shift)
                return
        self.logits.add_(density_shift(self.logits, density, self.noise, steps=BISECTIONS))
        self._held = True

    def apply(self, weights: Tensor, out: Tensor) -> None:
        """Sample the gates and write `weights * gate` into `out` (flat, as long)."""
        if self._bank is None:
            self._noisy.copy_(self.logits)
        else:
            torch.add(self.logits, self._bank.draw(), out=self._noisy)
        pass_open(weights, self._noisy, out)

    def backward(self, weights: Tensor, gradient: Tensor) -> None:
        """Turn g, the gradient of `weights * gate`, into that of the weights (in place) and of the logits.

        d/dweight = g * gate; d/dlogit = g * weight * s (1 - s) / T with s = sigmoid(z / T).
        """
        torch.div(self._noisy, self.temperature, out=self._soft).sigmoid_()
        torch.mul(weights, gradient, out=self.gradient)
        torch.ops.aten.sigmoid_backward.grad_input(self.gradient, self._soft, grad_input=self.gradient)
        if self.temperature != 1.0:
            self.gradient.div_(self.temperature)
        pass_open(gradient, self._noisy, gradient)

    def state(self) -> State:
        """Logits and noise; the sample is not part of it, as every step begins with a new one."""
        noise = {} if self._bank is None else prefixed("noise", self._bank.state())
        return {"logits": self.logits, "held": int(self._held), **noise}

    def load(self, state: State) -> None:
        """Go on from `state()`."""
        self.logits.copy_(tensor_of(state, "logits"))
        self._held = bool(state["held"])
        if self._bank is not None:
            self._bank.load(part(state, "noise"))


def pass_open(values: Tensor, noisy: Tensor, out: Tensor) -> None:
    """Write `values` into `out` where `noisy` is positive, else 0, in one kernel.

    A product with a bool mask would first be converted: on a CPU that takes fifteen times as long.
    """
    torch.ops.aten.threshold_backward.grad_input(values, noisy, 0.0, grad_input=out)
