"""Small tasks to train on: a named network, rows in memory, and what `prepare` would say of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from prune_engine.data.targets import TargetScale
from prune_engine.report import Metric
from tests.trained import digits_net, tutorial_arrays, tutorial_net

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Weight:
    name: str
    shape: tuple[int, ...]
    kind: str = "Gemm"
    output_axis: int = 0
    input_axis: int | None = 1
    groups: int = 1
    nodes: tuple[str, ...] = ()


class Network(nn.Module):
    """An `nn.Sequential` with the face of an imported ONNX model."""

    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        self.net = net

    @property
    def weights(self) -> Mapping[str, nn.Parameter]:
        return dict(self.net.named_parameters())

    @property
    def prunable(self) -> list[Weight]:
        return [Weight(name, tuple(value.shape)) for name, value in self.weights.items() if value.dim() > 1]

    def state_values(self) -> dict[str, np.ndarray]:
        return {name: value.detach().cpu().numpy() for name, value in self.net.state_dict().items()}

    def set_values(self, values: Mapping[str, np.ndarray]) -> None:
        with torch.no_grad():
            for name, value in values.items():
                self.net.state_dict()[name].copy_(torch.from_numpy(value))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return (self.net(*inputs),)


@dataclass(frozen=True)
class MemoryRows:
    x: Tensor
    y: Tensor | None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def labels(self) -> Tensor | None:
        return self.y

    def to(self, device: torch.device) -> MemoryRows:
        return MemoryRows(self.x.to(device), None if self.y is None else self.y.to(device))

    def batch(self, index: Tensor | slice) -> tuple[tuple[Tensor, ...], Tensor | None]:
        return (self.x[index],), None if self.y is None else self.y[index]


@dataclass(frozen=True)
class Task:
    task: str
    loss: str
    metric: Metric
    train: Any
    holdout: Any
    output_index: int = 0
    outputs_are: str = "logits"
    loss_scale: float = 1.0
    fixed_batch: int | None = None
    target_scale: TargetScale = field(default_factory=TargetScale)
    search: Any = None


def nonzero(network: Network) -> int:
    """Non-zero prunable weights."""
    values = network.state_values()
    return sum(int(np.count_nonzero(values[weight.name])) for weight in network.prunable)


def digits(*, labels: bool = True) -> tuple[Network, Task]:
    """A trained 64-64-32-10 net and scikit-learn's digits: 1,400 rows to train on, 397 to measure with."""
    x, y = load_digits(return_X_y=True)
    net = digits_net({"x_train": x[:1400], "y_train": y[:1400]})
    pixels, classes = torch.from_numpy(x).float() / 16, torch.from_numpy(y).long()
    train = MemoryRows(pixels[:1400], classes[:1400] if labels else None)
    holdout = MemoryRows(pixels[1400:], classes[1400:] if labels else None)
    if labels:
        metric = Metric(name="accuracy", unit="%", higher_is_better=True)
        return Network(net), Task("classification", "cross_entropy", metric, train, holdout)
    metric = Metric(name="agreement", unit="%", higher_is_better=True)
    return Network(net), Task("distillation", "cross_entropy", metric, train, holdout)


def tutorial(seed: int = 0) -> tuple[Network, Task]:
    """The trained 4-10-10-2 net and the two functions of the first paper's tutorial."""
    arrays = tutorial_arrays(seed)
    rows = {name: torch.from_numpy(array) for name, array in arrays.items()}
    train, holdout = (
        MemoryRows(rows["x_train"], rows["y_train"]),
        MemoryRows(rows["x_test"], rows["y_test"]),
    )
    scale = 1.0 / float((rows["y_train"] - rows["y_train"].mean(0)).abs().mean())
    metric = Metric(name="mae", unit="", higher_is_better=False)
    task = Task("regression", "mae", metric, train, holdout, loss_scale=scale)
    return Network(tutorial_net(arrays, seed)), task


def tiny(rows: int = 40) -> tuple[Network, Task]:
    """A 3-4-2 net without training, with BatchNorm and Dropout; for what needs no accuracy."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.2), nn.Linear(4, 2))
    x = torch.randn(rows, 3)
    data = MemoryRows(x, (x[:, 0] > 0).long())
    metric = Metric(name="accuracy", unit="%", higher_is_better=True)
    return Network(net), Task("classification", "cross_entropy", metric, data, data)
