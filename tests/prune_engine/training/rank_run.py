"""What one rank of `test_distributed.py` does: a small training, whose masks and values it writes down."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from prune_engine.events import silent
from prune_engine.spec import PruneSpec
from prune_engine.training import distributed, train
from tests.prune_engine.training.tasks import CPU, digits


def main() -> None:
    """Train and write `<folder>/<rank>.npz`."""
    torch.set_num_threads(1)
    distributed.join(CPU)
    network, task = digits()
    spec = PruneSpec(density=0.1, epochs=4, batch_size=50, seed=3, acceleration="off")
    result = train(network, task, spec, CPU, silent)  # type: ignore[arg-type]
    masks = {f"mask {name}": mask for name, mask in result.masks.items()}
    curve = np.array([point.loss for point in result.curve])
    path = Path(sys.argv[1]) / f"{distributed.rank()}-of-{distributed.ranks()}.npz"
    np.savez(path, curve=curve, **masks, **network.state_values())
    distributed.leave()


if __name__ == "__main__":
    main()
