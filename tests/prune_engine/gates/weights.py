"""Weights by shape, as the gates see them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from prune_engine.gates import Layout, lay_out
from prune_engine.gates.layout import Bounds
from prune_engine.granularity import parse_granularity


@dataclass(frozen=True)
class Weight:
    kind: str
    shape: tuple[int, ...]
    output_axis: int
    input_axis: int | None
    groups: int = 1

    @property
    def count(self) -> int:
        return math.prod(self.shape)


def linear(outputs: int, inputs: int) -> Weight:
    return Weight("Gemm", (outputs, inputs), 0, 1)


def matmul(outputs: int, inputs: int) -> Weight:
    return Weight("MatMul", (inputs, outputs), 1, 0)


def conv(outputs: int, inputs: int, side: int = 3, groups: int = 1) -> Weight:
    return Weight("Conv", (outputs, inputs // groups, side, side), 0, 1, groups)


def transposed(outputs: int, inputs: int, side: int = 2, groups: int = 1) -> Weight:
    return Weight("ConvTranspose", (inputs, outputs // groups, side, side), 1, 0, groups)


def laid_out(granularity: str, *weights: Weight, bounds: list[Bounds] | None = None) -> Layout:
    names = [f"w{i}" for i in range(len(weights))]
    return lay_out(weights, names, parse_granularity(granularity), bounds)


def pieces(flat: Tensor, layout: Layout) -> list[Tensor]:
    """A flat tensor as one tensor of its own shape for each weight."""
    sizes = [math.prod(weight.shape) for weight in layout.weights]
    parts = torch.split(flat, sizes)
    return [part.view(weight.shape) for part, weight in zip(parts, layout.weights, strict=True)]
