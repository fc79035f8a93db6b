"""Adam on a flat tensor, a part at a time, so that its gradient need never be there as a whole."""

from __future__ import annotations

import torch
from torch import Tensor

from prune_engine.gates.chunks import Views
from prune_engine.state import State, tensor_of

BETAS = (0.9, 0.999)


class ChunkedAdam:
    """Adam (Kingma & Ba 2015, algorithm 1), by torch's fused kernel on slices of one flat tensor.

    Attributes:
        average: of the gradients (the first moment), flat; None before the first step.
        epsilon: added to the root of the second moment.
        square: of their squares (the second moment), flat; None before the first step.

    Args:
        values: what is trained, flat.
        epsilon: added to the root of the second moment.
    """

    def __init__(self, values: Tensor, epsilon: float = 1e-8) -> None:
        self._values = values
        self.epsilon = epsilon
        self._rate = 0.0
        self._step = torch.zeros((), dtype=torch.float32, device=values.device)
        self.average: Tensor | None
        self.square: Tensor | None
        self._views: tuple[Views, ...]
        self.release()

    def begin(self, rate: float) -> None:
        """The next step, with learning rate `rate`; every slice is then updated once."""
        if self.average is None or self.square is None:
            self._remember(torch.zeros_like(self._values), torch.zeros_like(self._values))
        self._rate = rate
        self._step += 1

    def update(self, place: slice, gradient: Tensor) -> None:
        """Move the values at `place` against their `gradient`."""
        values, average, square = self._views
        torch._fused_adam_(
            [values[place]],
            [gradient],
            [average[place]],
            [square[place]],
            [],
            [self._step],
            lr=self._rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=0.0,
            eps=self.epsilon,
            amsgrad=False,
            maximize=False,
        )

    def hand_over(self, index: Tensor) -> State:
        """`state()` of the values at `index` alone; of the others the moments are forgotten."""
        if self.average is None or self.square is None:
            return {}
        self._views = ()
        step, average, self.average = self._step.clone(), self.average[index], None
        square, self.square = self.square[index], None
        return {"step": step, "exp_avg": average, "exp_avg_sq": square}

    def release(self) -> None:
        """Forget the moments; `load` brings others."""
        self.average = self.square = None
        self._views = ()

    def state(self) -> State:
        """Step count and moments, named as `torch.optim.Adam` names them; empty before the first step."""
        if self.average is None or self.square is None:
            return {}
        return {"step": self._step, "exp_avg": self.average, "exp_avg_sq": self.square}

    def load(self, state: State) -> None:
        """Go on from `state()`."""
        self.release()
        self._step.zero_()
        if state:
            self._step.copy_(tensor_of(state, "step"))
            device = self._values.device
            self._remember(
                tensor_of(state, "exp_avg").to(device, copy=True),
                tensor_of(state, "exp_avg_sq").to(device, copy=True),
            )

    def _remember(self, average: Tensor, square: Tensor) -> None:
        self.average, self.square = average, square
        self._views = Views(self._values), Views(average), Views(square)
