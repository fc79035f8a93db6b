"""What gates cost in memory: the peak of a gated training over that of a dense one, each in its own process.

    python -m benchmarks.memory

An MLP of 25 million weights, batch 128, float32. Dense: torch with Adam in its fused form. Gated: the whole
of `prune_engine.training.train`, its teacher, snapshots and search for the learning rate included. Counted is
what the process holds beyond what it held before the training: resident memory, looked at every 2 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.machine import store
from prune_engine.checkpoints.keeper import NOTHING_KEPT, Keeper

WIDTHS = (1024, 3072, 3072, 3072, 1024, 10)
ROWS, BATCH, STEPS = 2048, 128, 16
ALLOWED_FACTOR, ALLOWED_BYTES = 1.25, 12


def network() -> nn.Sequential:
    """Linear layers with ReLU between them."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(WIDTHS):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def data() -> tuple[Tensor, Tensor]:
    """Rows and classes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(ROWS, WIDTHS[0], generator=generator)
    return x, torch.randint(0, 10, (ROWS,), generator=generator)


def peak(work: Callable[[], object]) -> int:
    """Bytes that the process holds while `work` runs beyond those of before, at most."""
    process = psutil.Process()
    before, over = process.memory_info().rss, threading.Event()
    highest = [before]

    def look() -> None:
        while not over.wait(0.002):
            highest[0] = max(highest[0], process.memory_info().rss)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        work()
    finally:
        over.set()
        watch.join()
    return highest[0] - before


def dense() -> int:
    """Plain training."""
    net, (x, y) = network(), data()

    def work() -> None:
        optimiser = torch.optim.Adam(net.parameters(), 1e-4, fused=True)
        for rows in torch.arange(STEPS * BATCH).remainder(ROWS).split(BATCH):
            optimiser.zero_grad()
            torch.autograd.backward(functional.cross_entropy(net(x[rows]), y[rows]))
            optimiser.step()

    return peak(work) + _bytes(net)


def gated(density: float, keeper: Keeper = NOTHING_KEPT) -> int:
    """A whole training with gates."""
    from prune_engine.report import Metric
    from prune_engine.spec import PruneSpec
    from prune_engine.training import train
    from tests.prune_engine.training.tasks import CPU, MemoryRows, Network, Task

    net, (x, y) = network(), data()
    metric = Metric(name="accuracy", unit="%", higher_is_better=True)
    task: Any = Task(
        "classification", "cross_entropy", metric, MemoryRows(x, y), MemoryRows(x[:256], y[:256])
    )
    module: Any = Network(net)
    spec = PruneSpec(
        density=density, epochs=2, batch_size=BATCH, learning_rate=1e-4, distillation=0.5, acceleration="off"
    )
    return peak(lambda: train(module, task, spec, CPU, lambda event: None, None, keeper)) + _bytes(net)


def _bytes(net: nn.Module) -> int:
    """Of the parameters, which both kinds begin with."""
    return sum(parameter.nbytes for parameter in net.parameters())


def measured(kind: str) -> int:
    """The peak of one kind, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--only", kind]
    # Memory that is freed goes back at once, and large blocks come as whole pages from the system.
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    return int(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", help=argparse.SUPPRESS)
    only = parser.parse_args().only
    torch.set_num_threads(1)
    if only:
        print(json.dumps(dense() if only == "dense" else gated(float(only))))
        return
    weights = sum(a * b for a, b in pairwise(WIDTHS))
    of_dense = measured("dense")
    allowed = ALLOWED_FACTOR * of_dense + ALLOWED_BYTES * weights
    rows = [{"training": "dense", "peak MiB": of_dense >> 20, "bytes a weight": round(of_dense / weights, 1)}]
    for density in (0.5, 0.05):
        found = measured(str(density))
        rows.append(
            {
                "training": f"gated, density {density}",
                "peak MiB": found >> 20,
                "bytes a weight": round(found / weights, 1),
                "at most MiB": int(allowed) >> 20,
            }
        )
    store(
        "training_memory",
        "What gates cost in memory: the highest resident memory of a training",
        rows,
        [
            f"An MLP of {weights / 1e6:.1f} million weights, batch {BATCH}, float32, one thread; each "
            "training in a process of its own (`python -m benchmarks.memory`).",
            "At most: 1.25 times dense and 12 bytes a prunable weight.",
        ],
    )


if __name__ == "__main__":
    main()
