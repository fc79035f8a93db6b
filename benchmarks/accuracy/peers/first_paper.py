"""The recipe of "Pruning by gradient descent" (Zhang, Tao, Zhang 2023, arXiv 2311.12526) in its tutorial.

A gate has a logit to keep and one to drop and is sampled with the hard Gumbel-Softmax at temperature 3; the
loss is the task's plus 0.01 |target - mean gate|, for which gates are drawn a second time at temperature 1;
one Adam at a constant rate for weights and gates. The difference of two Gumbel samples is a logistic one, and
both logits move by the same step in opposite directions, so one logit at twice the rate is the same thing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from benchmarks.accuracy.loop import Groups, constant
from benchmarks.accuracy.nets import prunable
from benchmarks.accuracy.peers.peer import Ending, Peer, Settings

TEMPERATURE = 3.0
PENALTY = 0.01


class Gate(nn.Module):
    """One logit a weight: keep minus drop, equal at the start."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros_like(weight))

    def sample(self, temperature: float) -> Tensor:
        """0 or 1, with the gradient of the soft sample."""
        noise = torch.logit(torch.rand_like(self.logits), 1e-6)
        soft = torch.sigmoid((self.logits + noise) / temperature)
        return (soft > 0.5).to(soft.dtype) - soft.detach() + soft

    def forward(self, weight: Tensor) -> Tensor:
        """The weight under a sampled gate."""
        return weight * self.sample(TEMPERATURE) if self.training else weight * (self.logits > 0)


class FirstPaper(Peer):
    """`aim` is the target in the penalty: 0, or the density that is asked for."""

    name = "first-paper"
    title = "the first paper's recipe"
    first_try: ClassVar[Settings] = {"rate": 1e-2, "aim": "zero"}
    others: ClassVar[Mapping[str, tuple[float | str, ...]]] = {"aim": ("density",)}

    @classmethod
    def follows_density(cls, settings: Settings) -> bool:
        """With the aim at zero the density asked for has no part in the training."""
        return settings["aim"] == "density"

    def attach(self, example: Tensor) -> None:
        """A gate at every weight."""
        self._layers = prunable(self.net)
        self._gates: dict[str, Gate] = {}
        for name, layer in self._layers.items():
            self._gates[name] = Gate(cast(Tensor, layer.weight).detach())
            parametrize.register_parametrization(layer, "weight", self._gates[name])
        self._weights = sum(gate.logits.numel() for gate in self._gates.values())

    def groups(self) -> Groups:
        """Everything at one rate; the single logit's is that of two."""
        gates = [gate.logits for gate in self._gates.values()]
        ids = {id(logits) for logits in gates}
        others = [value for value in self.net.parameters() if id(value) not in ids]
        return [{"params": others, "lr": self.rate()}, {"params": gates, "lr": 2.0 * self.rate()}]

    def optimiser(self) -> tuple[torch.optim.Optimizer, Callable[[], None]]:
        """Adam at constant rates."""
        return constant(self.groups(), self.steps)

    def penalty(self) -> Tensor:
        """0.01 |target - mean gate|."""
        target = 0.0 if self.settings["aim"] == "zero" else self.density
        kept = torch.stack([gate.sample(1.0).sum() for gate in self._gates.values()]).sum()
        return PENALTY * (target - kept / self._weights).abs()

    def ending(self) -> Ending:
        """Kept where the keep logit is the larger."""
        state = {}
        for name, value in self.net.state_dict().items():
            if not name.endswith(".logits"):
                state[name.replace("parametrizations.weight.original", "weight")] = value
        logits = {name: gate.logits.detach() for name, gate in self._gates.items()}
        return Ending(state, {name: logit > 0 for name, logit in logits.items()}, logits)
