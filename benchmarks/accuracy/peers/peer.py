"""What the harness wants of a peer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmarks.accuracy.loop import Groups, one_cycle

Settings = Mapping[str, float | str]


@dataclass(frozen=True)
class Ending:
    """What a peer leaves.

    Args:
        state: values of all parameters and buffers by their names in the plain net, masks not applied.
        masks: by weight name, True where the peer keeps the weight.
        scores: by weight name, what the peer would keep first; of its kept weights, the harness takes those
        with the highest where the peer keeps more than was asked for.
    """

    state: dict[str, Tensor]
    masks: dict[str, Tensor]
    scores: dict[str, Tensor]


class Peer(ABC):
    """A pruning method around a torch module.

    `first_try` is where the search for its settings begins, `others` holds what else a setting may be; its
    rates are searched upwards and downwards (`choosing.py`). `net` is a copy of the dense net that the peer
    may change.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    package: ClassVar[str | None] = None
    revision: ClassVar[int] = 1
    first_try: ClassVar[Settings]
    others: ClassVar[Mapping[str, tuple[float | str, ...]]] = {}

    def __init__(
        self, net: nn.Module, example: Tensor, density: float, settings: Settings, steps: int
    ) -> None:
        self.net = net
        self.density = density
        self.settings = settings
        self.steps = steps
        self.attach(example)

    def rate(self, name: str = "rate") -> float:
        """A number of the settings."""
        return float(self.settings[name])

    @classmethod
    def follows_density(cls, settings: Settings) -> bool:
        """False where one training serves all densities."""
        return True

    @abstractmethod
    def attach(self, example: Tensor) -> None:
        """Put masks or gates into `self.net`."""

    @abstractmethod
    def groups(self) -> Groups:
        """Parameters and their peak rates, as Adam takes them."""

    def optimiser(self) -> tuple[torch.optim.Optimizer, Callable[[], None]]:
        """The optimiser, and what to call after each of its steps."""
        return one_cycle(self.groups(), self.steps)

    def before_step(self, step: int, steps: int) -> None:
        """Called before every training step."""
        return

    def penalty(self) -> Tensor | None:
        """Added to the task's loss."""
        return None

    @abstractmethod
    def ending(self) -> Ending:
        """What is kept when the training is over."""
