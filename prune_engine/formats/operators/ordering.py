"""Sorting: the largest elements, and the different ones."""

from __future__ import annotations

import torch
from torch import Tensor

from prune_engine.formats.operators.table import Kernel, Node, operator


@operator("TopK", until=9)
def _top_k_by_attribute(node: Node) -> Kernel:
    axis, k = node.attribute("axis", -1), node.attribute("k")
    return lambda x: _top_k(x, k, axis, True)


@operator("TopK", since=10, host=(1,))
def _top_k_by_input(node: Node) -> Kernel:
    axis, largest = node.attribute("axis", -1), bool(node.attribute("largest", 1))
    return lambda x, count: _top_k(x, count[0] if isinstance(count, list) else count, axis, largest)


def _top_k(x: Tensor, k: int, axis: int, largest: bool) -> tuple[Tensor, Tensor]:
    """A stable sort, for of equal values the lower index comes first."""
    values, indices = torch.sort(x, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, k), indices.narrow(axis, 0, k)


@operator("Unique", since=11)
def _unique(node: Node) -> Kernel:
    """The values are taken from the input, so that they have a gradient."""
    axis, in_order = node.attribute("axis"), bool(node.attribute("sorted", 1))

    def kernel(x: Tensor) -> Tensor | tuple[Tensor, ...]:
        rows, dim = (x.flatten(), 0) if axis is None else (x, axis % x.dim())
        _, inverse, counts = torch.unique(rows.detach(), True, True, True, dim)
        places = torch.arange(len(inverse), device=x.device)
        first = torch.full_like(counts, len(inverse)).scatter_reduce(0, inverse, places, "amin")
        if not in_order:
            order = first.argsort()
            first, counts, inverse = first[order], counts[order], order.argsort()[inverse]
        results = (rows.index_select(dim, first), first, inverse, counts)
        return results[0] if len(node.outputs) == 1 else results[: len(node.outputs)]

    return kernel
