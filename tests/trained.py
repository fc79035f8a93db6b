"""Small trained models that tests send: real ones, trained in seconds, seeded."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import nn


def export(net: nn.Module, example: torch.Tensor, path: Path) -> None:
    """Write `net` as ONNX with a dynamic batch."""
    net.eval()
    torch.onnx.export(
        net,
        (example,),
        str(path),
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
    )


def tutorial_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """The tutorial task of Zhang, Tao, Zhang 2023: y1 = 3 sin((x1-x2)^2), y2 = (x3+x4)^3, 1000 rows twice."""
    random = np.random.default_rng(seed)
    x = random.uniform(-1.0, 1.0, (2000, 4)).astype(np.float32)
    y = np.stack([3.0 * np.sin((x[:, 0] - x[:, 1]) ** 2), (x[:, 2] + x[:, 3]) ** 3], axis=1).astype(
        np.float32
    )
    return {"x_train": x[:1000], "y_train": y[:1000], "x_test": x[1000:], "y_test": y[1000:]}


def tutorial_net(arrays: dict[str, np.ndarray], seed: int = 0, steps: int = 2000) -> nn.Sequential:
    """The dense 4-10-10-2 net with SiLU, trained full-batch on the mean absolute error."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 10), nn.SiLU(), nn.Linear(10, 10), nn.SiLU(), nn.Linear(10, 2))
    x, y = torch.from_numpy(arrays["x_train"]), torch.from_numpy(arrays["y_train"])
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.l1_loss(net(x), y).backward()
        optimiser.step()
        schedule.step()
    return copy.deepcopy(net)


def digits_net(arrays: dict[str, np.ndarray], seed: int = 0) -> nn.Sequential:
    """A 64-64-32-10 net on scikit-learn's digits, inputs in [0, 1]."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)
    )
    x = torch.from_numpy(arrays["x_train"]).float().reshape(-1, 1, 8, 8) / 16
    y = torch.from_numpy(arrays["y_train"]).long()
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(30):
        for rows in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimiser.step()
    return net
