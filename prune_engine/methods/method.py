"""What a pruning method is: what it does around a training step, and the mask it ends with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from prune_engine.gates import FlatParameters, Layout, Units, single_weights
from prune_engine.state import State


@dataclass(frozen=True)
class MethodSettings:
    """Hyperparameters of the methods, none of them `auto`; `PruneSpec` has their meaning.

    `gate_epsilon` is Adam's epsilon on the logits: where it is large against the gradients, logits without a
    gradient worth the name do not drift. The density falls from `start_density` at `anneal_from` to `density`
    at `anneal_until`.
    """

    density: float
    kept: int
    gate_learning_rate: float
    gate_prior: float
    gate_noise: float
    gate_temperature: float
    gate_epsilon: float
    anneal_until: float
    fix_mask_at: float
    seed: int
    start_density: float = 1.0
    anneal_from: float = 0.0

    def annealed(self, progress: float) -> float:
        """How much of the way from `anneal_from` to `anneal_until` is done; beyond 1 it is over."""
        return (progress - self.anneal_from) / max(self.anneal_until - self.anneal_from, 1e-9)


class Method(ABC):
    """Decides which weights the module sees while the mask is still open.

    `progress` is the share of the whole training that is done, in [0, 1).

    Args:
        flat: the parameters.
        settings: hyperparameters.
        layout: what is kept or goes as one, and the layers' bounds; None: single weights without bounds.
    """

    def __init__(self, flat: FlatParameters, settings: MethodSettings, layout: Layout | None = None) -> None:
        self.flat = flat
        self.settings = settings
        self.layout = layout or single_weights([part.numel() for part in flat.layers(flat.weights)])
        self.units = Units(self.layout, flat.values.device)

    def retarget(self, settings: MethodSettings) -> None:
        """Go on to another density; the gates stay as they are."""
        self.settings = settings

    @abstractmethod
    def before_forward(self, progress: float) -> None:
        """Write into `flat.shown` what the module shall compute with."""

    @abstractmethod
    def after_backward(self, progress: float) -> None:
        """Turn the gradient of `shown` into that of `values`; train what the method itself learns."""

    def in_pieces(self, progress: float) -> Callable[[slice, Tensor], None] | None:
        """`after_backward` for callers that have the gradient in pieces, or None: it is needed as a whole.

        What comes back is to be called once for every chunk of the prunable weights: with its place, and its
        part of the gradient of `shown`, which becomes that of `values` in place.
        """
        return None

    def release(self) -> None:  # noqa: B027 - most methods have nothing of the kind
        """Let go of what only learning on needs; the mask stays, and `load` brings the rest back."""

    def forget(self) -> None:  # noqa: B027 - as above
        """Let go of what even the mask follows from; only `load` makes a method of it again."""

    @abstractmethod
    def mask(self) -> Tensor:
        """The mask of exactly `settings.kept` prunable weights, flat, bool."""

    @property
    @abstractmethod
    def density(self) -> float:
        """Density that the schedule asks for now."""

    @abstractmethod
    def state(self) -> State:
        """All that the method has learned and drawn, between two steps; references, not copies."""

    @abstractmethod
    def load(self, state: State) -> None:
        """Go on from `state()`, to the same bits."""
