"""What one rank of `test_distributed.py` does: a small training, whose masks and values it writes down."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from onnx import helper

from prune_engine.events import silent
from prune_engine.formats import import_onnx
from prune_engine.spec import PruneSpec
from prune_engine.training import distributed, train
from tests.prune_engine.formats.graphs import model, values
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
    np.savez(path.with_stem(f"buffers-{path.stem}"), **averaged())
    distributed.leave()


def averaged() -> dict[str, np.ndarray]:
    """The buffers of an imported net, whose statistics differ, after the ranks have averaged three times."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"]),
        helper.make_node("BatchNormalization", ["h", "scale", "shift", "mean", "var"], ["n"]),
        helper.make_node("Add", ["n", "mask"], ["y"]),
    ]
    smallest = np.full((1, 1, 8, 8), np.finfo(np.float32).min, np.float32)
    constants = {"w": values(3, 4, 1, 1), "scale": values(3), "shift": values(3), "mask": smallest}
    constants |= {"mean": values(3), "var": np.abs(values(3))}
    module = import_onnx(model(nodes, constants, shape=("n", 4, 8, 8), output=("n", 3, 8, 8)))
    module.set_values({"mean": np.full(3, distributed.rank(), np.float32)})
    for _ in range(3):
        distributed.average_buffers(module)
    return {name.replace("|", "."): buffer.numpy() for name, buffer in module.named_buffers()}


if __name__ == "__main__":
    main()
