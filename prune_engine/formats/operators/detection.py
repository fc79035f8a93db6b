"""Regions of interest: choosing boxes, and pooling what is inside."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators.table import Kernel, Node, operator


@operator("NonMaxSuppression", since=10, host=(2, 3, 4))
def _non_max_suppression(node: Node) -> Kernel:
    """Rows (batch, class, box) of the boxes kept. Runs on the processor, for how many there are is data."""
    centred = bool(node.attribute("center_point_box", 0))

    def kernel(
        boxes: Tensor, scores: Tensor, most: Any = None, overlap: Any = None, least: Any = None
    ) -> Tensor:
        limit = int(_number(most, 0))
        corners = _corners(boxes.detach().cpu().numpy(), centred)
        confidence = scores.detach().cpu().numpy()
        kept = [
            (batch, label, box)
            for batch in range(confidence.shape[0])
            for label in range(confidence.shape[1])
            for box in _greedy(
                corners[batch], confidence[batch, label], limit, _number(overlap, 0.0), _number(least, None)
            )
        ]
        return torch.tensor(kept, dtype=torch.int64, device=boxes.device).reshape(-1, 3)

    return kernel


def _number(value: Any, default: Any) -> Any:
    if isinstance(value, list):
        value = value[0] if value else None
    return default if value is None else value


def _corners(boxes: np.ndarray, centred: bool) -> np.ndarray:
    """Boxes as (low, low, high, high); corners may be given in any order."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if centred:
        first, second = first - second / 2, first + second / 2
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], -1)


def _greedy(
    boxes: np.ndarray, scores: np.ndarray, limit: int, overlap: float, least: float | None
) -> list[int]:
    """Boxes from the best score down, each dropped where it overlaps a kept one by more than `overlap`."""
    order = np.argsort(-scores, kind="stable")
    if least is not None:
        order = order[scores[order] > least]
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], -1)
    kept: list[int] = []
    while len(order) and len(kept) < limit:
        best, order = int(order[0]), order[1:]
        kept.append(best)
        sides = np.minimum(boxes[best, 2:], boxes[order, 2:]) - np.maximum(boxes[best, :2], boxes[order, :2])
        shared = np.prod(np.clip(sides, 0, None), -1)
        union = areas[best] + areas[order] - shared
        ratio = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        order = order[ratio <= overlap]
    return kept


@operator("RoiAlign", since=10)
def _roi_align(node: Node) -> Kernel:
    """Bilinear samples inside each bin of each region (He et al., "Mask R-CNN", 2017), averaged or maximised.

    Until opset 15 pixels are not centred.
    """
    shape = node.attribute("output_height", 1), node.attribute("output_width", 1)
    ratio, scale = node.attribute("sampling_ratio", 0), node.attribute("spatial_scale", 1.0)
    how = node.attribute("coordinate_transformation_mode", "half_pixel")
    centred = node.opset >= 16 and how == "half_pixel"
    pool = _average if node.attribute("mode", "avg") == "avg" else _largest

    def kernel(x: Tensor, regions: Tensor, batches: Tensor) -> Tensor:
        bounds = regions * scale - (0.5 if centred else 0.0)
        start, extent = bounds[:, [1, 0]], bounds[:, [3, 2]] - bounds[:, [1, 0]]
        if not centred:
            extent = extent.clamp(min=1.0)
        taps = [_taps(start[:, i], extent[:, i], shape[i], ratio, x.shape[2 + i]) for i in range(2)]
        result = x.new_zeros(len(regions), x.shape[1], *shape)
        for image in range(x.shape[0]):
            own = (batches == image).nonzero().reshape(-1)
            if len(own):
                pooled = pool(
                    x[image],
                    *((low[own], part[own], count[own], valid[own]) for low, part, count, valid in taps),
                )
                result = result.index_copy(0, own, pooled)
        return result

    return kernel


Taps = tuple[Tensor, Tensor, Tensor, Tensor]


def _taps(start: Tensor, extent: Tensor, bins: int, ratio: int, size: int) -> Taps:
    """Along one axis, for [regions, bins, samples]: the pixel before a sample and the next one's part.

    Also how many samples a region has, and which samples lie on the map.
    """
    step = extent / bins
    count = torch.full_like(step, ratio) if ratio > 0 else step.ceil().clamp(min=0)
    most = ratio if ratio > 0 else int(count.max().item()) if count.numel() else 0
    numbers = torch.arange(most, device=start.device)
    inside = (numbers + 0.5) / count.clamp(min=1).unsqueeze(1)  # [regions, samples]
    places = torch.arange(bins, device=start.device).view(1, -1, 1) + inside.unsqueeze(1)
    places = start.view(-1, 1, 1) + step.view(-1, 1, 1) * places
    valid = (places >= -1) & (places <= size) & (numbers < count.view(-1, 1, 1))
    places = places.clamp(0, size - 1)
    low = places.detach().floor().long()
    return low, places - low, count, valid


def _matrix(taps: Taps, size: int) -> Tensor:
    """Interpolation weights averaged over the samples of a bin: [regions, bins, size]."""
    low, part, count, valid = taps
    high = (low + 1).clamp(max=size - 1)
    empty = part.new_zeros(*low.shape[:2], size)
    weights = empty.scatter_add(2, low, (1 - part) * valid).scatter_add(2, high, part * valid)
    return weights / count.clamp(min=1).view(-1, 1, 1)


def _average(image: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """The mean over a bin's grid of samples is a product of one matrix per axis."""
    down, across = _matrix(rows, image.shape[1]), _matrix(columns, image.shape[2])
    return torch.einsum("rph,chw,rqw->rcpq", down, image, across)


def _largest(image: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """ONNX takes the largest of the four weighted neighbours of a sample, not of their sum."""
    found: Tensor | None = None
    regions, bins_down, samples_down = rows[0].shape
    _, bins_across, samples_across = columns[0].shape
    valid = rows[3].reshape(regions, -1, 1) & columns[3].reshape(regions, 1, -1)
    counts = (rows[2] * columns[2]).view(-1, 1, 1, 1)
    for down, weight_down in _neighbours(rows, image.shape[1]):
        for across, weight_across in _neighbours(columns, image.shape[2]):
            places = down.reshape(regions, -1, 1) * image.shape[2] + across.reshape(regions, 1, -1)
            weight = weight_down.reshape(regions, -1, 1) * weight_across.reshape(regions, 1, -1)
            values = image.flatten(1)[:, places] * (weight * valid)
            found = values if found is None else torch.maximum(found, values)
    if found is None or not found.numel():
        return image.new_zeros(regions, image.shape[0], bins_down, bins_across)
    used = _counted(rows).reshape(regions, -1, 1) & _counted(columns).reshape(regions, 1, -1)
    found = torch.where(used, found, torch.full_like(found, -torch.inf))
    grid = found.movedim(0, 1).reshape(
        regions, image.shape[0], bins_down, samples_down, bins_across, samples_across
    )
    return torch.where(counts > 0, grid.amax((3, 5)), torch.zeros_like(grid[:, :, :, 0, :, 0]))


def _counted(taps: Taps) -> Tensor:
    """Which samples a region has: regions differ in how many."""
    low, _, count, _ = taps
    return (torch.arange(low.shape[2], device=low.device) < count.view(-1, 1, 1)).expand(low.shape)


def _neighbours(taps: Taps, size: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    low, part, _, _ = taps
    return (low, 1 - part), ((low + 1).clamp(max=size - 1), part)


@operator("MaxRoiPool")
def _max_roi_pool(node: Node) -> Kernel:
    """The largest value of each bin of each region (Girshick, "Fast R-CNN", 2015); bins have whole pixels."""
    shape, scale = tuple(node.attribute("pooled_shape")), node.attribute("spatial_scale", 1.0)

    def kernel(x: Tensor, regions: Tensor) -> Tensor:
        pooled = []
        for batch, *corners in regions.tolist():
            whole = [math.floor(corner * scale + 0.5) for corner in corners]
            pooled.append(_pool_region(x[int(batch)], whole, shape))
        return torch.stack(pooled) if pooled else x.new_zeros(0, x.shape[1], *shape)

    return kernel


def _pool_region(image: Tensor, region: list[int], shape: tuple[int, ...]) -> Tensor:
    left, top, right, bottom = region
    right, bottom = max(right, left), max(bottom, top)
    height, width = image.shape[1:]
    # Negative pads cut; what sticks out of the map is empty.
    around = (-left, right + 1 - width, -top, bottom + 1 - height)
    part = functional.pad(image, around, value=-torch.inf)
    largest = functional.adaptive_max_pool2d(part, shape)
    return torch.where(largest == -torch.inf, torch.zeros_like(largest), largest)
