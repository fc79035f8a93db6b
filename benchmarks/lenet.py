"""LeNet-300-100 on MNIST at extreme densities: ours and gradual magnitude pruning, from the same nets.

    python -m benchmarks.lenet            writes results/lenet.{json,md}

Ten epochs at batch 128, three seeds, everything else as by default; accuracy on the test rows, which choose
nothing. Needs MNIST as `.cache/datasets/mnist.npz` (the tests unpack it there).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.machine import store
from prune_engine import PruneSpec, prune

DATASETS = Path(__file__).resolve().parent.parent / ".cache" / "datasets"
SEEDS = (0, 1, 2)
DENSITIES = (0.01, 0.0015)
PROTOTYPE = {0.01: 97.6, 0.0015: 94.5}


def train_lenet300(path: Path, seed: int = 0, epochs: int = 20) -> None:
    """Train LeNet-300-100 on MNIST (inputs in [0, 1]) and write it as ONNX."""
    with np.load(DATASETS / "mnist.npz") as arrays:
        x = torch.from_numpy(arrays["x_train"]).float().reshape(-1, 784) / 255
        y = torch.from_numpy(arrays["y_train"]).long()
    torch.manual_seed(seed)
    net = nn.Sequential(
        *(nn.Flatten(), nn.Linear(784, 300), nn.ReLU()), *(nn.Linear(300, 100), nn.ReLU()), nn.Linear(100, 10)
    )
    optimiser = torch.optim.Adam(net.parameters(), 2e-3, weight_decay=1e-5)
    steps = epochs * (len(x) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(128)[: len(x) // 128]:
            optimiser.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimiser.step()
            schedule.step()
    net.eval()
    dynamic = {"image": {0: "batch"}, "logits": {0: "batch"}}
    names = {"input_names": ["image"], "output_names": ["logits"]}
    torch.onnx.export(
        net, (torch.zeros(1, 1, 28, 28),), str(path), dynamo=False, dynamic_axes=dynamic, **names
    )


def row(models: dict[int, Path], density: float, method: str) -> dict[str, Any]:
    """Prune each seed's dense net; a row of the table."""
    reports, seconds = [], []
    for seed, path in models.items():
        began = time.monotonic()
        spec = PruneSpec.model_validate(
            {"density": density, "method": method, "epochs": 10, "batch_size": 128, "seed": seed}
        )
        reports.append(prune(path, DATASETS / "mnist.npz", spec).report)
        seconds.append(time.monotonic() - began)
        print(method, density, seed, reports[-1].quality.pruned.value, flush=True)
    values = [report.quality.pruned.value for report in reports]
    return {
        "method": method,
        "density asked": density,
        "weights kept": f"{reports[0].density.kept} of {reports[0].density.prunable}",
        "dense %": ", ".join(f"{report.quality.dense.value:.2f}" for report in reports),
        "pruned %": ", ".join(f"{value:.2f}" for value in values),
        "mean %": round(statistics.mean(values), 2),
        "asked %": f"at least {PROTOTYPE[density]}" if method == "gumbel" else "",
        "seconds": round(statistics.median(seconds)),
    }


def main() -> None:
    """Train, prune, store."""
    with tempfile.TemporaryDirectory() as folder:
        models = {seed: Path(folder) / f"lenet300_100_{seed}.onnx" for seed in SEEDS}
        for seed, path in models.items():
            train_lenet300(path, seed)
        rows = [row(models, density, method) for density in DENSITIES for method in ("gumbel", "magnitude")]
    store(
        "lenet", "LeNet-300-100 on MNIST, 10 epochs, seeds 0, 1, 2", rows, [__doc__.split("\n\n")[2].strip()]
    )


if __name__ == "__main__":
    main()
