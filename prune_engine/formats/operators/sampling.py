"""Sampling feature maps at computed places."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators.table import Kernel, Node, NotSupportedError, operator

_MODES = {
    "bilinear": "bilinear",
    "linear": "bilinear",
    "nearest": "nearest",
    "bicubic": "bicubic",
    "cubic": "bicubic",
}


@operator("GridSample", since=16)
def _grid_sample(node: Node) -> Kernel:
    """Over one axis, torch samples a map of height one. Opset 20 renamed the modes."""
    mode, padding = node.attribute("mode", "linear"), node.attribute("padding_mode", "zeros")
    corners = bool(node.attribute("align_corners", 0))
    if _MODES[mode] == "bicubic" and node.ranks.get(0, 4) > 4:
        raise NotSupportedError("cubic GridSample of volumes", 'Use the mode "linear" for volumes.')

    def sample(x: Tensor, grid: Tensor) -> Tensor:
        return functional.grid_sample(x, grid, _MODES[mode], padding, corners)

    def kernel(x: Tensor, grid: Tensor) -> Tensor:
        if x.dim() != 3:
            return sample(x, grid)
        flat = functional.pad(grid, (0, 1)).unsqueeze(1)
        return sample(x.unsqueeze(2), flat).squeeze(2)

    return kernel


@operator("AffineGrid", since=20, host=(1,))
def _affine_grid(node: Node) -> Kernel:
    corners = bool(node.attribute("align_corners", 0))

    def kernel(theta: Tensor, size: Sequence[int]) -> Tensor:
        return functional.affine_grid(theta, list(size), corners)

    return kernel
