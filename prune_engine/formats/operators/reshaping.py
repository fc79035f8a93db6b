"""Operators that move or retype elements without computing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators.creation import check_size
from prune_engine.formats.operators.rounding import cast
from prune_engine.formats.operators.table import Kernel, Node, function, operator

function("Identity", lambda x: x)


@operator("Reshape", until=4)
def _reshape_by_attribute(node: Node) -> Kernel:
    reshape, shape = _reshape(node), node.attribute("shape")
    return lambda x: reshape(x, shape)


@operator("Reshape", since=5, host=(1,))
def _reshape(node: Node) -> Kernel:
    """A 0 copies the input's size at that place, unless `allowzero` is set."""
    copies = not node.attribute("allowzero", 0)

    def kernel(x: Tensor, shape: Sequence[int]) -> Tensor:
        if copies and 0 in shape:
            shape = [x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
        return x.reshape(shape)

    return kernel


@operator("Flatten")
def _flatten(node: Node) -> Kernel:
    axis = node.attribute("axis", 1)
    if axis == 1:
        return lambda x: x.flatten(1) if x.dim() > 1 else x.unsqueeze(1)

    def kernel(x: Tensor) -> Tensor:
        cut = axis + x.dim() if axis < 0 else axis
        rows = 1
        for size in x.shape[:cut]:
            rows *= size
        return x.reshape(rows, x.numel() // rows if rows else 0)

    return kernel


@operator("Transpose")
def _transpose(node: Node) -> Kernel:
    order = node.attribute("perm")
    if order is None:
        return lambda x: x.permute(*reversed(range(x.dim())))
    if order == [1, 0]:
        return lambda x: x.t()
    return lambda x: x.permute(order)


def _squeeze(x: Tensor, axes: Sequence[int] | None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def _unsqueeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    if len(axes) == 1:
        return x.unsqueeze(axes[0])
    rank = x.dim() + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return x


@operator("Squeeze", until=12)
def _squeeze_by_attribute(node: Node) -> Kernel:
    axes = node.attribute("axes")
    return lambda x: _squeeze(x, axes)


@operator("Squeeze", since=13, host=(1,))
def _squeeze_by_input(node: Node) -> Kernel:
    return lambda x, axes=None: _squeeze(x, [axes] if isinstance(axes, int) else axes)


@operator("Unsqueeze", until=12)
def _unsqueeze_by_attribute(node: Node) -> Kernel:
    axes = node.attribute("axes")
    return lambda x: _unsqueeze(x, axes)


@operator("Unsqueeze", since=13, host=(1,))
def _unsqueeze_by_input(node: Node) -> Kernel:
    return lambda x, axes: _unsqueeze(x, [axes] if isinstance(axes, int) else axes)


@operator("Expand", since=8, host=(1,))
def _expand(node: Node) -> Kernel:
    """Two-way broadcasting: a size of 1 in the shape keeps the input's."""

    def kernel(x: Tensor, shape: Sequence[int]) -> Tensor:
        own = (1,) * (len(shape) - x.dim()) + tuple(x.shape)
        wanted = (1,) * (x.dim() - len(shape)) + tuple(shape)
        sizes = [a if b == 1 else b for a, b in zip(own, wanted, strict=True)]
        check_size(sizes)
        return x.expand(sizes)

    return kernel


@operator("Tile", until=5, host=(1, 2))
def _tile_along_axis(node: Node) -> Kernel:
    def kernel(x: Tensor, count: int | list[int], axis: int | list[int]) -> Tensor:
        dim, times = (v[0] if isinstance(v, list) else v for v in (axis, count))
        check_size([*x.shape, times])
        return x.repeat([times if i == dim % x.dim() else 1 for i in range(x.dim())])

    return kernel


@operator("Tile", since=6, host=(1,))
def _tile(node: Node) -> Kernel:
    def kernel(x: Tensor, repeats: Sequence[int]) -> Tensor:
        check_size([size * count for size, count in zip(x.shape, repeats, strict=True)])
        return x.repeat(*repeats)

    return kernel


@operator("Cast", since=6)
def _cast(node: Node) -> Kernel:
    return _cast_to(node, node.attribute("to"))


@operator("CastLike", since=15)
def _cast_like(node: Node) -> Kernel:
    """Where the file does not say the type of the second input, it is what its tensor is computed in."""
    if 1 not in node.types:
        return lambda x, like: x.to(like.dtype)
    kernel = _cast_to(node, node.types[1])
    return lambda x, like: kernel(x)


def _cast_to(node: Node, element_type: int) -> Kernel:
    return cast(element_type, bool(node.attribute("saturate", 1)), node.attribute("round_mode", "up"))


@operator("DepthToSpace")
def _depth_to_space(node: Node) -> Kernel:
    block = node.attribute("blocksize")
    if node.attribute("mode", "DCR") == "CRD":
        return lambda x: functional.pixel_shuffle(x, block)

    def kernel(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        parts = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return parts.reshape(n, c // block**2, h * block, w * block)

    return kernel


@operator("SpaceToDepth")
def _space_to_depth(node: Node) -> Kernel:
    block = node.attribute("blocksize")
    if node.attribute("mode", "DCR") == "CRD":
        return lambda x: functional.pixel_unshuffle(x, block)

    def kernel(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        parts = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
        return parts.reshape(n, c * block**2, h // block, w // block)

    return kernel


@operator("Dropout", until=11)
def _no_dropout(node: Node) -> Kernel:
    """Before opset 12 Dropout is of inference: nothing is dropped, and onnxruntime's mask is zero."""
    if len(node.outputs) == 1:
        return lambda x: x
    return lambda x: (x, torch.zeros_like(x, dtype=x.dtype if node.opset < 10 else torch.bool))


@operator("Dropout", since=12, training=True, host=(1, 2))
def _dropout(node: Node) -> Kernel:
    """Drops only where the file itself says `training_mode` and the module trains."""
    with_mask = len(node.outputs) > 1

    def kernel(training: bool, x: Tensor, ratio: float | None = None, mode: bool | None = None) -> object:
        dropped = (0.5 if ratio is None else ratio) if training and mode else 0.0
        if not with_mask:
            return functional.dropout(x, dropped) if dropped else x
        mask = torch.rand(x.shape, device=x.device) >= dropped
        return x * mask / max(1 - dropped, torch.finfo(x.dtype).tiny), mask

    return kernel
