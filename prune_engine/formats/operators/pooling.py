"""Pooling over windows and over whole feature maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators.table import Kernel, Node, function, operator
from prune_engine.formats.operators.windows import Window, pad, window

_MAXIMUM = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
_CONVOLVE = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def _spatial(x: Tensor) -> list[int]:
    return list(range(2, x.dim()))


def _global(pool: Kernel) -> Kernel:
    """`pool` over the spatial axes; without any, every element is its own map."""
    return lambda x: pool(x, _spatial(x), keepdim=True) if x.dim() > 2 else x


function("GlobalAveragePool", _global(torch.mean))
function("GlobalMaxPool", _global(torch.amax))


@operator("GlobalLpPool")
def _global_lp_pool(node: Node) -> Kernel:
    p = node.attribute("p", 2)
    return lambda x: torch.linalg.vector_norm(x, p, _spatial(x), keepdim=True)


def _torch_can(frame: Window) -> bool:
    """torch wants equal pads at both ends, at most half of the kernel."""
    return frame.symmetric and all(2 * p <= k for p, k in zip(frame.padding, frame.kernel, strict=True))


def _end_for_ceil(frame: Window, sizes: Sequence[int], pads: Sequence[int]) -> list[int]:
    """What must be added to the end pads so that flooring gives the rounded-up number of windows.

    A window that would start in the end padding is left out, as onnxruntime and torch do.
    """
    rank, extra = len(frame.kernel), []
    for axis, size in enumerate(sizes):
        span = (frame.kernel[axis] - 1) * frame.dilations[axis] + 1
        length = size + pads[axis] + pads[axis + rank]
        windows = math.ceil((length - span) / frame.strides[axis]) + 1
        if (windows - 1) * frame.strides[axis] >= size + pads[axis]:
            windows -= 1
        extra.append(max((windows - 1) * frame.strides[axis] + span - length, 0))
    return extra


def _padded(x: Tensor, frame: Window, ceil: bool, value: float) -> tuple[Tensor, tuple[int, ...], list[int]]:
    """`x` padded for its windows, with the pads and what rounding up added to the ends."""
    pads, sizes, rank = frame.pads_for(x.shape[2:]), x.shape[2:], len(frame.kernel)
    extra = _end_for_ceil(frame, sizes, pads) if ceil else [0] * rank
    whole = (*pads[:rank], *(p + e for p, e in zip(pads[rank:], extra, strict=True)))
    return pad(x, whole, value), pads, extra


@operator("MaxPool")
def _max_pool(node: Node) -> Kernel:
    frame, ceil = window(node, node.attribute("kernel_shape")), bool(node.attribute("ceil_mode", 0))
    pool, rank = _MAXIMUM[len(frame.kernel)], len(frame.kernel)
    if len(node.outputs) > 1:
        return _max_pool_with_indices(node, frame, ceil)
    if _torch_can(frame):
        kernel, strides, padding, dilations = frame.kernel, frame.strides, frame.padding, frame.dilations
        return lambda x: pool(x, kernel, strides, padding, dilations, ceil)

    def padded(x: Tensor) -> Tensor:
        lowest = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
        wide, _, _ = _padded(x, frame, ceil, lowest)
        return pool(wide, frame.kernel, frame.strides, (0,) * rank, frame.dilations)

    return padded


def _max_pool_with_indices(node: Node, frame: Window, ceil: bool) -> Kernel:
    """ONNX counts the indices over the whole [N, C, ...] tensor, torch over one feature map."""
    rank, column_major = len(frame.kernel), bool(node.attribute("storage_order", 0))
    pool = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}[rank]

    def kernel(x: Tensor) -> tuple[Tensor, Tensor]:
        wide, pads, _ = _padded(x.float(), frame, ceil, -math.inf)
        values, flat = pool(wide, frame.kernel, frame.strides, 0, frame.dilations, return_indices=True)
        index = torch.zeros_like(flat)
        sizes = list(x.shape[2:])
        step = 1
        order = range(rank) if column_major else reversed(range(rank))
        places = {}
        for axis in reversed(range(rank)):
            places[axis] = flat % wide.shape[2 + axis] - pads[axis]
            flat = flat // wide.shape[2 + axis]
        for axis in order:
            index = index + places[axis] * step
            step *= sizes[axis]
        maps = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(x.shape[:2] + (1,) * rank)
        return values.to(x.dtype), index + maps * math.prod(sizes)

    return kernel


@operator("AveragePool")
def _average_pool(node: Node) -> Kernel:
    frame, ceil = window(node, node.attribute("kernel_shape")), bool(node.attribute("ceil_mode", 0))
    include, rank = bool(node.attribute("count_include_pad", 0)), len(frame.kernel)
    dilated = any(d > 1 for d in frame.dilations)
    pool = _AVERAGE[rank]
    if _torch_can(frame) and not dilated:
        kernel, strides, padding = frame.kernel, frame.strides, frame.padding
        return lambda x: pool(x, kernel, strides, padding, ceil, include)

    def windows_sum(x: Tensor) -> Tensor:
        ones = torch.ones((x.shape[1], 1, *frame.kernel), dtype=x.dtype, device=x.device)
        return _CONVOLVE[rank](x, ones, None, frame.strides, 0, frame.dilations, x.shape[1])

    def padded(x: Tensor) -> Tensor:
        wide, pads, extra = _padded(x, frame, ceil, 0.0)
        counted = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
        if include:
            counted = pad(counted, pads, 1.0)
            counted = pad(counted, (*[0] * rank, *extra))
        else:
            counted, _, _ = _padded(counted, frame, ceil, 0.0)
        return windows_sum(wide) / windows_sum(counted)

    return padded


@operator("LpPool")
def _lp_pool(node: Node) -> Kernel:
    frame, p = window(node, node.attribute("kernel_shape")), node.attribute("p", 2)
    ceil, rank = bool(node.attribute("ceil_mode", 0)), len(frame.kernel)

    def kernel(x: Tensor) -> Tensor:
        wide, _, _ = _padded(x.abs() ** p, frame, ceil, 0.0)
        ones = torch.ones((x.shape[1], 1, *frame.kernel), dtype=x.dtype, device=x.device)
        total = _CONVOLVE[rank](wide, ones, None, frame.strides, 0, frame.dilations, x.shape[1])
        positive = total > 0  # the root has no finite derivative at 0
        root = torch.where(positive, total, torch.ones_like(total)) ** (1.0 / p)
        return torch.where(positive, root, torch.zeros_like(root))

    return kernel


@operator("MaxUnpool", since=9, host=(2,))
def _max_unpool(node: Node) -> Kernel:
    """Puts the values back where MaxPool found them; what `output_shape` asks for beyond that is zero."""
    frame = window(node, node.attribute("kernel_shape"))

    def kernel(x: Tensor, indices: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        rank = len(frame.kernel)
        sizes = [
            (n - 1) * frame.strides[i] - frame.pads[i] - frame.pads[i + rank] + frame.kernel[i]
            for i, n in enumerate(x.shape[2:])
        ]
        whole = x.new_zeros(math.prod((*x.shape[:2], *sizes)))
        whole = whole.scatter(0, indices.reshape(-1), x.reshape(-1)).reshape(*x.shape[:2], *sizes)
        if shape is None:
            return whole
        return pad(whole, (*[0] * rank, *(n - size for n, size in zip(shape[2:], sizes, strict=True))))

    return kernel
