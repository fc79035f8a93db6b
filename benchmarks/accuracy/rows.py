"""The rows of a task: raw arrays for our engine, and the same rows as batches for a torch module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.accuracy.tasks import Task
from benchmarks.accuracy.words import encode_words, vocabulary

Array = np.ndarray[Any, Any]

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
USD = 100_000.0
"""House values are learned in units of so many dollars; errors are shown in thousands."""


@dataclass(frozen=True)
class Rows:
    """Training and test rows as tensors; `as_input` turns a batch of raw rows into the network's input.

    Args:
        x_train, x_test: (rows, ...) as our engine gets them too.
        y_train, y_test: (rows,) int64 classes, or (rows, 1) float32.
        as_input: raw rows -> what the network takes.
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    as_input: Callable[[Tensor], Tensor]

    def to(self, device: torch.device) -> Rows:
        """All rows on `device`."""
        return replace(
            self,
            x_train=self.x_train.to(device),
            y_train=self.y_train.to(device),
            x_test=self.x_test.to(device),
            y_test=self.y_test.to(device),
        )

    def held_out(self, rows: int) -> Rows:
        """The last `rows` training rows in place of the test rows: what settings are chosen on."""
        return replace(
            self,
            x_train=self.x_train[:-rows],
            y_train=self.y_train[:-rows],
            x_test=self.x_train[-rows:],
            y_test=self.y_train[-rows:],
        )

    def arrays(self) -> dict[str, Array]:
        """What `prune_engine.prune` takes."""
        names = ("x_train", "y_train", "x_test", "y_test")
        return {name: getattr(self, name).cpu().numpy() for name in names}

    def example(self, rows: int = 2) -> Tensor:
        """A few rows of network input."""
        return self.as_input(self.x_train[:rows])


def load_rows(task: Task) -> Rows:
    """The data of `task`; MNIST, CIFAR-10, California housing and SST-2 lie in `.cache/datasets`."""
    return {
        "lenet300": _mnist,
        "lenet5": _mnist,
        "resnet20": _cifar,
        "housing": _housing,
        "sst2": _sst2,
        "digits": _digits,
    }[task.name]()


def _load(name: str) -> dict[str, Array]:
    with np.load(CACHE / "datasets" / f"{name}.npz") as arrays:
        return dict(arrays)


def _classes(labels: Array) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))


def _mnist() -> Rows:
    data = _load("mnist")
    return Rows(
        torch.from_numpy(data["x_train"]),
        _classes(data["y_train"]),
        torch.from_numpy(data["x_test"]),
        _classes(data["y_test"]),
        lambda x: x.float().div_(255).unsqueeze(1),
    )


def _cifar() -> Rows:
    data = _load("cifar10")
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)

    def as_input(x: Tensor) -> Tensor:
        scaled = x.permute(0, 3, 1, 2).float().div_(255)
        return (scaled - mean.to(x.device)) / std.to(x.device)

    return Rows(
        torch.from_numpy(data["x_train"]),
        _classes(data["y_train"]),
        torch.from_numpy(data["x_test"]),
        _classes(data["y_test"]),
        as_input,
    )


def _housing() -> Rows:
    """Missing values become the training median, columns are standardised by the training rows."""
    data = _load("california_housing")
    median = np.nanmedian(data["x_train"], axis=0)
    train, test = (np.where(np.isnan(x), median, x) for x in (data["x_train"], data["x_test"]))
    mean, std = train.mean(axis=0), train.std(axis=0)
    x_train, x_test = (((x - mean) / std).astype(np.float32) for x in (train, test))
    y_train, y_test = ((data[name][:, None] / USD).astype(np.float32) for name in ("y_train", "y_test"))
    return Rows(
        torch.from_numpy(x_train),
        torch.from_numpy(y_train),
        torch.from_numpy(x_test),
        torch.from_numpy(y_test),
        lambda x: x,
    )


def _sst2() -> Rows:
    """Token ids of the words that the training rows use more than once; 0 pads, 1 is any other word."""
    data = _load("sst2")
    words = vocabulary(data["x_train"])
    return Rows(
        torch.from_numpy(encode_words(data["x_train"], words)),
        _classes(data["y_train"]),
        torch.from_numpy(encode_words(data["x_test"], words)),
        _classes(data["y_test"]),
        lambda x: x,
    )


def _digits() -> Rows:
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    images = digits.images.astype(np.uint8)[order]
    labels = _classes(digits.target[order])
    x = torch.from_numpy(images)
    return Rows(
        x[:1_400], labels[:1_400], x[1_400:], labels[1_400:], lambda x: x.float().div_(16).unsqueeze(1)
    )
