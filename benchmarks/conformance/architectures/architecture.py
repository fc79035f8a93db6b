"""`Architecture`: how a net of the zoo is built and what it takes, and the list of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

Family = Literal[
    "vision", "dense prediction", "language", "audio", "series", "tables", "graphs", "generative"
]


@dataclass(frozen=True)
class Input:
    """One input of a net.

    Args:
        name: in the exported file.
        row: shape without the batch axis.
        below: whole numbers from 0 to below this; None: normally distributed numbers; 1: all ones (a mask).
    """

    name: str
    row: tuple[int, ...]
    below: int | None = None

    def draw(self, rows: int, generator: np.random.Generator) -> np.ndarray[Any, Any]:
        """Random values for so many rows."""
        shape = (rows, *self.row)
        if self.below is None:
            return generator.standard_normal(shape).astype(np.float32)
        if self.below == 1:
            return np.ones(shape, np.int64)
        return generator.integers(0, self.below, shape)


@dataclass(frozen=True)
class Architecture:
    """A net of the zoo.

    Args:
        formats: whether it also goes the ways of TorchScript and `.pt2`.
        without_gradient: parts of the names of weights that nothing in the net makes use of.
    """

    name: str
    family: Family
    inputs: tuple[Input, ...]
    build: Callable[[], nn.Module]
    formats: bool = False
    without_gradient: tuple[str, ...] = ()


ZOO: dict[str, Architecture] = {}


def net(
    name: str,
    family: Family,
    *inputs: Input,
    formats: bool = False,
    without_gradient: tuple[str, ...] = (),
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Puts a builder on the list."""

    def register(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        if name in ZOO:
            raise ValueError(f"two nets are called {name}")
        ZOO[name] = Architecture(name, family, inputs, build, formats, without_gradient)
        return build

    return register


def image(size: int, channels: int = 3) -> Input:
    """A square image, channels first."""
    return Input("image", (channels, size, size))


def make(architecture: Architecture) -> nn.Module:
    """The net with random weights, in eval mode; the same every time.

    Some nets start with scales of zero (the last norm of a residual branch), which stop every gradient, as no
    net does that was trained: those get small random values.
    """
    allow_torchvision()
    torch.manual_seed(0)
    module = architecture.build().eval()
    for name, parameter in module.named_parameters():
        if not name.endswith("bias") and not bool(parameter.any()):
            nn.init.normal_(parameter, std=0.1)
    return module.requires_grad_(True)


def allow_torchvision() -> None:
    """Lets torchvision be imported beside a torch without CUDA, for which its wheel has no compiled part."""
    if hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(library)


_KEPT: list[Any] = []


class Flat(nn.Module):
    """A net whose nested outputs come as a flat tuple of its float tensors."""

    def __init__(self, inner: nn.Module, **fixed: Any) -> None:
        super().__init__()
        self.inner, self.fixed = inner, fixed

    def run(self, **inputs: Tensor) -> tuple[Tensor, ...]:
        """The float tensors among the outputs."""
        return tuple(tensors(self.inner(**inputs, **self.fixed)))


def tensors(value: Any) -> list[Tensor]:
    """Every float tensor in nested tuples, lists and mappings, in order."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if hasattr(value, "values"):
        value = value.values()
    return [leaf for item in value for leaf in tensors(item)] if not isinstance(value, str) else []
