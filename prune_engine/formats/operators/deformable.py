"""Deformable convolution (Zhu et al., "Deformable ConvNets v2", 2019) and columns back to images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators.creation import check_size
from prune_engine.formats.operators.table import Kernel, Node, operator
from prune_engine.formats.operators.windows import Window, pad, window


@operator("DeformConv", since=19)
def _deform_conv(node: Node) -> Kernel:
    """Samples the input where the offsets say, weighs the samples by the mask, multiplies by the weight."""
    groups, offset_groups = node.attribute("group", 1), node.attribute("offset_group", 1)

    def kernel(
        x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        frame = window(node, tuple(weight.shape[2:]))
        batch, channels = x.shape[:2]
        taps, (height, width) = math.prod(frame.kernel), offset.shape[2:]
        places = _places(frame, height, width, x.device)  # [taps, 2, height, width]
        moved = places + offset.reshape(batch * offset_groups, taps, 2, height, width)
        # From pixels to grid_sample's coordinates, in which -1 and 1 are the borders of the image.
        sizes = torch.tensor(x.shape[2:], device=x.device).view(2, 1, 1)
        grid = ((2 * moved + 1 - sizes) / sizes).movedim(2, -1).flip(-1)
        maps = x.reshape(batch * offset_groups, channels // offset_groups, *x.shape[2:])
        samples = functional.grid_sample(maps, grid.flatten(1, 2), align_corners=False)
        samples = samples.reshape(batch * offset_groups, -1, taps, height, width)
        if mask is not None:
            samples = samples * mask.reshape(batch * offset_groups, 1, taps, height, width)
        columns = samples.reshape(batch, groups, channels // groups * taps, height * width)
        rows = weight.reshape(groups, weight.shape[0] // groups, -1)
        result = torch.einsum("goc,bgcp->bgop", rows, columns).reshape(batch, -1, height, width)
        return result if bias is None else result + bias.view(-1, 1, 1)

    return kernel


def _places(frame: Window, height: int, width: int, device: torch.device) -> Tensor:
    """Where each tap of the kernel lies for each output element without offsets: (y, x)."""
    taps = torch.stack(
        torch.meshgrid(
            *(torch.arange(k, device=device) * d for k, d in zip(frame.kernel, frame.dilations, strict=True)),
            indexing="ij",
        )
    ).reshape(2, -1)
    outputs = torch.stack(
        torch.meshgrid(
            *(
                torch.arange(n, device=device) * s - p
                for n, s, p in zip((height, width), frame.strides, frame.pads, strict=False)
            ),
            indexing="ij",
        )
    )
    return (taps.t().reshape(-1, 2, 1, 1) + outputs).float()


@operator("Col2Im", since=18, host=(1, 2))
def _columns_to_image(node: Node) -> Kernel:
    """Adds up the columns [N, C * block, L] where their windows overlap."""

    def kernel(x: Tensor, image: Sequence[int], block: Sequence[int]) -> Tensor:
        check_size(image)
        frame = window(node, tuple(block))
        rank = len(image)
        padded = [n + frame.pads[i] + frame.pads[i + rank] for i, n in enumerate(image)]
        index = torch.from_numpy(_column_places(frame, padded)).to(x.device)
        batch, taps = x.shape[0], math.prod(block)
        values = x.reshape(batch, -1, taps * x.shape[2])
        flat = x.new_zeros(batch, values.shape[1], math.prod(padded)).index_add(2, index, values)
        whole = flat.reshape(batch, -1, *padded)
        return pad(whole, [-p for p in frame.pads])

    return kernel


def _column_places(frame: Window, sizes: Sequence[int]) -> np.ndarray:
    """For each tap and window, in the order of the columns, the place in the flat padded image."""
    flat = np.zeros((1, 1), np.int64)
    for size, kernel, stride, dilation in zip(
        sizes, frame.kernel, frame.strides, frame.dilations, strict=True
    ):
        windows = (size - (kernel - 1) * dilation - 1) // stride + 1
        along = np.arange(kernel)[:, None] * dilation + np.arange(windows)[None, :] * stride
        flat = flat[:, None, :, None] * size + along[None, :, None, :]
        flat = flat.reshape(flat.shape[0] * flat.shape[1], -1)
    return flat.reshape(-1)
