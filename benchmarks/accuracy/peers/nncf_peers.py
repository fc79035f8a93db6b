"""NNCF 3.4 (`nncf.prune`): its magnitude pruning, and its learned masks ("regularisation-based", RB)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmarks.accuracy.loop import Groups
from benchmarks.accuracy.nets import prunable
from benchmarks.accuracy.peers.peer import Ending, Peer, Settings

TICKS = 100
UNTIL = 0.7
"""The ratio arrives after so much of the training. Its schedules count epochs; here an "epoch" is a
hundredth of the way, which is finer than its users' steps and better for it."""


def _nncf() -> Any:
    os.environ.setdefault("NNCF_CI", "1")  # no telemetry
    import nncf

    nncf.set_log_level(40)
    return nncf


class _NncfPeer(Peer):
    package = "nncf"

    def attach(self, example: Tensor) -> None:
        """Hooks on the weights of all layers."""
        nncf = _nncf()
        self._names = list(prunable(self.net))
        self._values = set(self.net.state_dict())
        mode = nncf.PruneMode[str(self.settings.get("mode", "UNSTRUCTURED_REGULARIZATION_BASED"))]
        ratio = {} if mode == nncf.PruneMode.UNSTRUCTURED_REGULARIZATION_BASED else {"ratio": 0.0}
        self.net = nncf.prune(self.net, mode=mode, examples_inputs=example, **ratio)
        self._mode = mode
        self._plain = {name: value for name, value in self.net.named_parameters() if name in self._values}
        if set(self.hooks()) != set(self._names):
            raise RuntimeError(f"nncf prunes {sorted(self.hooks())}, not {sorted(self._names)}")
        end = max(round(UNTIL * self.steps), 1)
        self._every = max(end // TICKS, 1)
        self._ticks = end // self._every

    def hooks(self) -> dict[str, nn.Module]:
        """NNCF's mask module of each weight."""
        raise NotImplementedError

    def tick(self, step: int) -> int | None:
        """The schedule's "epoch" that begins with this step, if one does."""
        if step % self._every == 0 and step // self._every <= self._ticks:
            return step // self._every
        return None

    def state(self) -> dict[str, Tensor]:
        """Values by their names in the plain net."""
        return {name: value for name, value in self.net.state_dict().items() if name in self._values}


class NncfMagnitude(_NncfPeer):
    """Global magnitude, each layer's scaled by its norm, on NNCF's exponential schedule."""

    name = "nncf-magnitude"
    title = "NNCF 3.4 magnitude"
    first_try: ClassVar[Settings] = {"rate": 1e-3, "mode": "UNSTRUCTURED_MAGNITUDE_GLOBAL"}
    others: ClassVar[Mapping[str, tuple[float | str, ...]]] = {"mode": ("UNSTRUCTURED_MAGNITUDE_LOCAL",)}

    def attach(self, example: Tensor) -> None:
        """Masks and their schedule."""
        super().attach(example)
        from nncf.torch.function_hook.pruning.magnitude import schedulers

        self._schedule = schedulers.ExponentialMagnitudePruningScheduler(
            self.net,
            mode=self._mode,
            initial_ratio=0.0,
            target_ratio=1.0 - self.density,
            target_epoch=self._ticks,
        )

    def hooks(self) -> dict[str, nn.Module]:
        """NNCF's binary masks."""
        from nncf.torch.function_hook.pruning.magnitude.algo import get_pruned_modules

        return dict(get_pruned_modules(self.net))

    def groups(self) -> Groups:
        """All parameters at one rate."""
        return [{"params": list(self._plain.values()), "lr": self.rate()}]

    def before_step(self, step: int, steps: int) -> None:
        """Advance the schedule."""
        epoch = self.tick(step)
        if epoch is not None:
            self._schedule.step(epoch)

    def ending(self) -> Ending:
        """The masks as they are; magnitudes over their layer's norm as scores, as NNCF compares them."""
        state = self.state()
        masks = {name: torch.as_tensor(hook.binary_mask).bool() for name, hook in self.hooks().items()}
        return Ending(state, masks, {name: state[name].abs() / state[name].norm(2) for name in masks})


class NncfRb(_NncfPeer):
    """Logits with logistic noise and `RBLoss`, whose target follows NNCF's exponential schedule."""

    name = "nncf-rb"
    title = "NNCF 3.4 RB"
    first_try: ClassVar[Settings] = {"rate": 1e-3, "mask_rate": 0.1}
    others: ClassVar[Mapping[str, tuple[float | str, ...]]] = {"mask_rate": (0.3, 0.03)}

    def attach(self, example: Tensor) -> None:
        """Gates, the penalty and its schedule."""
        super().attach(example)
        from nncf.torch.function_hook.pruning.rb.losses import RBLoss
        from nncf.torch.function_hook.pruning.rb.schedulers import ExponentialRBPruningScheduler

        target = 1.0 - self.density
        self._penalty = RBLoss(self.net, target_ratio=target)
        self._schedule = ExponentialRBPruningScheduler(
            self._penalty, initial_ratio=0.0, target_ratio=target, target_epoch=self._ticks
        )

    def hooks(self) -> dict[str, nn.Module]:
        """NNCF's gates."""
        from nncf.torch.function_hook.pruning.rb.algo import get_pruned_modules

        return dict(get_pruned_modules(self.net))

    def groups(self) -> Groups:
        """Weights and gates, each at a rate of their own."""
        gates = [hook.mask for hook in self.hooks().values()]
        return [
            {"params": list(self._plain.values()), "lr": self.rate()},
            {"params": gates, "lr": self.rate("mask_rate")},
        ]

    def before_step(self, step: int, steps: int) -> None:
        """Advance the schedule."""
        epoch = self.tick(step)
        if epoch is not None:
            self._schedule.step(epoch)

    def penalty(self) -> Tensor:
        """NNCF's own."""
        value: Tensor = self._penalty()
        return value

    def ending(self) -> Ending:
        """Kept where the keep probability is above one half; logits as scores."""
        logits = {name: torch.as_tensor(hook.mask).detach() for name, hook in self.hooks().items()}
        return Ending(self.state(), {name: logit > 0 for name, logit in logits.items()}, logits)
