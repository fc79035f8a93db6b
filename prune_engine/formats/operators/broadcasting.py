"""How operands were lined up before opset 7: by the attributes `broadcast` and `axis`, not as in numpy."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prune_engine.formats.operators.table import Kernel, Node


def by_axis(node: Node, kernel: Kernel) -> Kernel:
    """`kernel` of two operands, the second lined up with the axes of the first that begin at `axis`."""
    axis = node.attribute("axis")
    if axis is None or not node.attribute("broadcast", 0):
        return kernel

    def lined_up(a: Tensor, b: Any) -> Tensor:
        if isinstance(b, Tensor):
            b = b.reshape(b.shape + (1,) * (a.dim() - axis % a.dim() - b.dim()))
        result: Tensor = kernel(a, b)
        return result

    return lined_up
