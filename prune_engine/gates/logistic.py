"""Binary gates on single weights: logistic noise, hard samples, straight-through gradients."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from prune_engine.gates.budget import density_shift
from prune_engine.gates.chunks import Views, chunk_length, chunks
from prune_engine.gates.following import followed_shift
from prune_engine.gates.noise import LogisticBank
from prune_engine.state import State, part, prefixed, tensor_of


class LogisticGates:
    """One logit a weight; a gate is open where `logit + noise * L > 0` with L standard logistic.

    This is the two-class Gumbel-Softmax with hard samples (Jang 2017; Zhang, Tao, Zhang 2023, section 2): the
    difference of two Gumbel samples is one logistic sample, so one logit a gate is enough. The gradient of
    the sample is that of `sigmoid(z / T)` at `z = logit + noise * L` (straight-through). Nothing of a sample
    is kept: z is computed again where it is needed, from the same place of the bank.

    Attributes:
        logits: flat; the shift that holds the density is part of them.

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
        self._seed = seed
        self._views = Views(logits)
        self._bank = self._new_bank()
        length = min(chunk_length(logits.device), logits.numel())
        self._scratch = [Views(part) for part in logits.new_empty(3, length)]
        self._gradient: Tensor | None = None
        self._held = False

    @property
    def open(self) -> Tensor:
        """The gates of the last sample: flat, bool."""
        return torch.cat([self._noisy(place) > 0.0 for place in self._chunks()])

    @property
    def gradient(self) -> Tensor:
        """Of the loss by the logits, flat, after `backward`."""
        if self._gradient is None:
            self._gradient = torch.zeros_like(self.logits)
        return self._gradient

    def retune(self, noise: float, temperature: float) -> None:
        """Go on with another scale of the noise and another temperature."""
        if self._bank is not None and noise:
            self._bank.rescale(noise / temperature / (self.noise / self.temperature))
            self.noise, self.temperature = noise, temperature
        else:
            self.noise, self.temperature = noise, temperature
            self._bank = self._new_bank()

    def _new_bank(self) -> LogisticBank | None:
        """Noise in units of the temperature."""
        if not self.noise:
            return None
        scale = self.noise / self.temperature
        return LogisticBank(self.logits.numel(), scale, self._seed, self.logits.device)

    def hold(self, density: float) -> None:
        """Shift all logits so that the expected density is `density` (see `density_shift`).

        After the first time it is looked for nearby, and everywhere only where it is not found there. A
        device that would have to be asked for the outcome looks everywhere at once.
        """
        if self._held and self.noise and self.logits.device.type == "cpu":
            near = followed_shift(self.logits, density, self.noise)
            if near is not None:
                self.logits.add_(near)
                return
        self.logits.add_(density_shift(self.logits, density, self.noise))
        self._held = True

    def apply(self, weights: Tensor, out: Tensor) -> None:
        """Sample the gates and write `weights * gate` into `out` (flat, as long)."""
        if self._bank is not None:
            self._bank.shuffle()
        length = chunk_length(self.logits.device)
        parts = zip(self._chunks(), torch.split(weights, length), torch.split(out, length), strict=True)
        for place, values, shown in parts:
            pass_open(values, self._noisy(place), shown)

    def turn(self, place: slice, weights: Tensor, gradient: Tensor) -> Tensor:
        """Turn g, the gradient of `weights * gate`, into that of the weights (in place), and return that of
        the logits *times T*, which the caller must use up before the next call.

        d/dweight = g * gate; d/dlogit = g * weight * s (1 - s) / T with s = sigmoid(z / T).

        Args:
            place: which gates, no more than a chunk.
            weights: their weights.
            gradient: g.
        """
        noisy, short = self._noisy(place), slice(0, len(gradient))
        soft, slope = self._scratch[1][short], self._scratch[2][short]
        torch.sigmoid(noisy, out=soft)
        torch.mul(weights, gradient, out=slope)
        torch.ops.aten.sigmoid_backward.grad_input(slope, soft, grad_input=slope)
        pass_open(gradient, noisy, gradient)
        return slope

    def backward(self, weights: Tensor, gradient: Tensor) -> None:
        """`turn` for all gates at once; the gradient of the logits is then in `gradient`."""
        for place in self._chunks():
            slope = self.turn(place, weights[place], gradient[place])
            torch.div(slope, self.temperature, out=self.gradient[place])

    def _chunks(self) -> Iterator[slice]:
        return chunks(0, self.logits.numel(), self.logits.device)

    def _noisy(self, place: slice) -> Tensor:
        """`(logit + noise * L) / T` of the last sample."""
        logits, short = self._views[place], slice(0, place.stop - place.start)
        if self._bank is None:
            return torch.div(logits, self.temperature, out=self._scratch[0][short])
        noise = self._bank.piece(place)
        return torch.add(noise, logits, alpha=1.0 / self.temperature, out=self._scratch[0][short])

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
