"""`torch.nn.utils.prune`: global magnitude on a gradual schedule (Zhu and Gupta 2017, arXiv 1710.01878)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from benchmarks.accuracy.loop import Groups
from benchmarks.accuracy.nets import prunable
from benchmarks.accuracy.peers.peer import Ending, Peer, Settings

TICKS = 100
"""How often the mask is taken anew on the way down."""


class TorchGradual(Peer):
    """The sparsity rises cubically from 0 until `until` of the training; `L1Unstructured` over all layers."""

    name = "torch-gradual"
    title = "torch.nn.utils.prune, gradual global magnitude"
    first_try: ClassVar[Settings] = {"rate": 1e-3, "until": 0.7}
    others: ClassVar[Mapping[str, tuple[float | str, ...]]] = {"until": (0.5, 0.85)}

    def attach(self, example: Tensor) -> None:
        """A mask of ones for each layer."""
        self._layers: dict[str, nn.Module] = prunable(self.net)
        self._pruned = 0
        self._total = sum(_tensor(layer, "weight").numel() for layer in self._layers.values())
        for layer in self._layers.values():
            prune.identity(layer, "weight")  # type: ignore[no-untyped-call]

    def groups(self) -> Groups:
        """All parameters at one rate."""
        return [{"params": list(self.net.parameters()), "lr": self.rate()}]

    def before_step(self, step: int, steps: int) -> None:
        """Prune more at the ticks of the schedule."""
        end = max(round(self.rate("until") * steps), 1)
        every = max(end // TICKS, 1)
        if step > end or (step % every and step != end):
            return
        sparsity = (1.0 - self.density) * (1.0 - (1.0 - step / end) ** 3)
        wanted = (
            self._total - round(self.density * self._total) if step == end else int(sparsity * self._total)
        )
        if wanted > self._pruned:
            self._prune(wanted - self._pruned)
            self._pruned = wanted

    def _prune(self, more: int) -> None:
        scores = {
            (layer, "weight"): _tensor(layer, "weight_orig").detach() for layer in self._layers.values()
        }
        prune.global_unstructured(
            list(scores), pruning_method=prune.L1Unstructured, importance_scores=scores, amount=more
        )

    def ending(self) -> Ending:
        """The masks as they are; magnitudes as scores."""
        masks = {name: _tensor(layer, "weight_mask").bool() for name, layer in self._layers.items()}
        weights = {name: _tensor(layer, "weight_orig").detach() for name, layer in self._layers.items()}
        state = dict(self.net.state_dict())
        for name, weight in weights.items():
            state[name] = weight
            del state[f"{name}_orig"], state[f"{name}_mask"]
        return Ending(state, masks, {name: torch.abs(weight) for name, weight in weights.items()})


def _tensor(layer: nn.Module, name: str) -> Tensor:
    value = getattr(layer, name)
    assert isinstance(value, Tensor)
    return value
