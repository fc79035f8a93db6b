"""The trainings that a spec asks for: one, one for each of several densities, or those of a search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from prune_engine.checkpoints.keeper import NOTHING_KEPT, Keeper
from prune_engine.events import Listener
from prune_engine.spec import PruneSpec
from prune_engine.training.frontier import train_frontier
from prune_engine.training.result import Trainable, Trained
from prune_engine.training.target import train_to_target
from prune_engine.training.trainer import train

if TYPE_CHECKING:
    from prune_engine.data import Prepared


def train_for(
    module: Trainable,
    prepared: Prepared,
    spec: PruneSpec,
    device: torch.device,
    emit: Listener,
    start: Mapping[str, np.ndarray] | None = None,
    keeper: Keeper = NOTHING_KEPT,
) -> Iterator[Trained]:
    """What `spec` asks for, one result after another; arguments and errors are those of `train`."""
    if spec.frontier is not None:
        yield from train_frontier(module, prepared, spec, device, emit, start, keeper)
    elif spec.target is not None:
        yield train_to_target(module, prepared, spec, device, emit, start, keeper)
    else:
        yield Trained(spec, module, train(module, prepared, spec, device, emit, start, keeper))
