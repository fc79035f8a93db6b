"""Running sums and products along an axis."""

from __future__ import annotations

import torch
from torch import Tensor

from prune_engine.formats.operators.table import Kernel, Node, operator


@operator("CumSum", since=11, host=(1,))
def _cumulative_sum(node: Node) -> Kernel:
    return _cumulative(node, torch.cumsum, 0)


@operator("CumProd", since=26, host=(1,))
def _cumulative_product(node: Node) -> Kernel:
    return _cumulative(node, torch.cumprod, 1)


def _cumulative(node: Node, accumulate: Kernel, neutral: int) -> Kernel:
    """`exclusive` shifts by one element, which is right where an element is infinite or zero too."""
    exclusive, reverse = node.attribute("exclusive", 0), node.attribute("reverse", 0)

    def kernel(x: Tensor, axis: int | list[int]) -> Tensor:
        dim = axis[0] if isinstance(axis, list) else axis
        x = x.flip(dim) if reverse else x
        if exclusive and x.shape[dim]:
            first = torch.full_like(x.narrow(dim, 0, 1), neutral)
            x = torch.cat([first, x.narrow(dim, 0, x.shape[dim] - 1)], dim)
        total: Tensor = accumulate(x, dim, dtype=x.dtype)
        return total.flip(dim) if reverse else total

    return kernel
