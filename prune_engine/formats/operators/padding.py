"""Padding. Pad has attributes before opset 11, inputs after, axes from 18 on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators.creation import check_size
from prune_engine.formats.operators.table import Kernel, Node, operator


@operator("Pad", until=10)
def _pad_by_attributes(node: Node) -> Kernel:
    pads, value = node.attribute("pads") or node.attribute("paddings"), node.attribute("value", 0.0)
    mode = node.attribute("mode", "constant")
    return lambda x: _pad(x, pads, value, None, mode)


@operator("Pad", since=11, host=(1, 2, 3))
def _pad_by_inputs(node: Node) -> Kernel:
    mode = node.attribute("mode", "constant")

    def kernel(
        x: Tensor,
        pads: Sequence[int],
        value: float | list[float] | None = None,
        axes: Sequence[int] | None = None,
    ) -> Tensor:
        fill = 0.0 if value is None else (value[0] if isinstance(value, list) else value)
        return _pad(x, pads, fill, axes, mode)

    return kernel


def _pad(x: Tensor, pads: Sequence[int], value: float, axes: Sequence[int] | None, mode: str) -> Tensor:
    half = len(pads) // 2
    ends = {
        (place if axes is None else axes[place] % x.dim()): (pads[place], pads[place + half])
        for place in range(half)
    }
    if mode == "constant":
        flat = [p for axis in reversed(range(x.dim())) for p in ends.get(axis, (0, 0))]
        if not any(flat):
            return x
        return functional.pad(x, flat, value=value if x.dtype != torch.bool else bool(value))
    for axis, (before, after) in ends.items():
        if before or after:
            x = x.index_select(axis, _source(x.shape[axis], before, after, mode, x.device))
    return x


def _source(size: int, before: int, after: int, mode: str, device: torch.device) -> Tensor:
    """Which element of the axis each element of the padded axis is a copy of."""
    places = torch.arange(-before, size + after, device=device)
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places.remainder(size)
    if size == 1:
        return places * 0
    period = 2 * (size - 1)
    folded = places.remainder(period)
    return torch.where(folded >= size, period - folded, folded)


@operator("CenterCropPad", since=18, host=(1,))
def _center_crop_pad(node: Node) -> Kernel:
    """Cuts or fills with zeros at both ends; an odd element goes to the end."""
    some = node.attribute("axes")

    def kernel(x: Tensor, shape: Sequence[int]) -> Tensor:
        check_size(shape)
        axes = range(x.dim()) if some is None else [axis % x.dim() for axis in some]
        for axis, wanted in zip(axes, shape, strict=True):
            size = x.shape[axis]
            if wanted < size:
                x = x.narrow(axis, (size - wanted) // 2, wanted)
            elif wanted > size:
                before = (wanted - size) // 2
                x = _pad(x, [before, wanted - size - before], 0, [axis], "constant")
        return x

    return kernel
