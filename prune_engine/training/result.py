"""What goes into a training and what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from prune_engine.gates.fitting import MatrixWeight
from prune_engine.report import CurvePoint, TargetInfo
from prune_engine.spec import PruneSpec


class PrunableInfo(MatrixWeight, Protocol):
    """What training needs to know of a prunable weight; `formats.PrunableWeight` is one."""

    @property
    def name(self) -> str:
        """Key in `Trainable.weights`."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes that use it as their weight."""


class Trainable(Protocol):
    """A module that can be trained and pruned; `prune_engine.formats.OnnxModule` is one."""

    @property
    def prunable(self) -> Sequence[PrunableInfo]:
        """The prunable weights."""

    @property
    def weights(self) -> Mapping[str, nn.Parameter]:
        """Name -> parameter, all that are trained."""

    @property
    def training(self) -> bool:
        """Whether it behaves as in training."""

    def state_values(self) -> dict[str, np.ndarray]:
        """Name -> current value: parameters and BatchNorm statistics."""

    def set_values(self, values: Mapping[str, np.ndarray]) -> None:
        """Give parameters and BatchNorm statistics other values, by name."""

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The model's outputs for a batch."""

    def train(self, mode: bool = True) -> Any:
        """Switch to training behaviour (BatchNorm, Dropout)."""

    def eval(self) -> Any:
        """Switch to inference behaviour."""


@dataclass(frozen=True)
class TrainingResult:
    """What `train` gives back; the module itself holds the final weights.

    Attributes:
        masks: prunable weight's name -> bool array of its shape; `round(density * N)` True in all.
        before_finetuning: `state_values()` at the moment the mask became fixed: pruned, not yet fine-tuned.
        curve: loss, density and now and then the metric, over the whole training.
        settings: every hyperparameter as resolved from `auto`.
        warnings: what the user should know.
        durations: seconds in `pruning` and in `finetuning`.
    """

    masks: dict[str, np.ndarray]
    before_finetuning: dict[str, np.ndarray]
    curve: list[CurvePoint]
    settings: dict[str, Any]
    warnings: list[str]
    durations: dict[str, float]


@dataclass(frozen=True)
class Trained:
    """A training to one density that has come to its end: what was asked of it, its module, and the rest.

    `target` is how the density was found, where it was not given.
    """

    spec: PruneSpec
    module: Trainable
    result: TrainingResult
    target: TargetInfo | None = None
