"""Resize and Upsample: one axis after another, each by an index list or an interpolation matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators.table import Kernel, Node, operator


@dataclass(frozen=True)
class _Axis:
    """How one axis is resized: sizes in and out, the scale, and the region of interest along it."""

    size: int
    wanted: int
    scale: float
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True)
class _Method:
    """The attributes of a Resize node."""

    mode: str
    coordinates: str
    nearest: str
    cubic: float
    exclude_outside: bool
    antialias: bool
    outside: float

    @property
    def crops(self) -> bool:
        """Whether places outside of the input get a value of their own."""
        return self.coordinates == "tf_crop_and_resize"


def _places(axis: _Axis, how: str, single: bool = False) -> np.ndarray:
    """Where on the input axis each output element lies; `single`: computed in float32.

    Nearest neighbours need it: onnxruntime computes so, and a place half-way falls to one side or another.
    """
    number: type[np.floating[Any]] = np.float32 if single else np.float64
    n, out, scale = number(axis.size), axis.wanted, number(axis.scale)
    x: np.ndarray = np.arange(out, dtype=number)
    places: np.ndarray = (x + number(0.5)) / scale - number(0.5)
    if how == "align_corners":
        places = x * (n - 1) / number(max(out - 1, 1))
    elif how == "asymmetric":
        places = x / scale
    elif how == "tf_crop_and_resize":
        start, end = number(axis.start), number(axis.end)
        if out > 1:
            places = start * (n - 1) + x * (end - start) * (n - 1) / number(out - 1)
        else:
            places = np.full(out, number(0.5) * (start + end) * (n - 1))
    elif how == "pytorch_half_pixel" and out <= 1:
        places = np.zeros(out, number)
    elif how == "half_pixel_symmetric":
        places = places + n / 2 * (1 - number(out) / (scale * n))
    return places


_ROUND: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(1 - np.abs(x), 0, None))


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel."""
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _matrix(axis: _Axis, method: _Method) -> np.ndarray:
    """Interpolation weights, shape [wanted, size]; edges repeat unless `exclude_outside`."""
    places = _places(axis, method.coordinates)
    shrink = min(axis.scale, 1.0) if method.antialias else 1.0
    reach = (2.0 if method.mode == "cubic" else 1.0) / shrink
    weights = np.zeros((axis.wanted, axis.size))
    for row, place in enumerate(places):
        taps = np.arange(math.floor(place - reach) + 1, math.ceil(place + reach) + 1)
        distance = (taps - place) * shrink
        values = _cubic(distance, method.cubic) if method.mode == "cubic" else _triangle(distance)
        if method.exclude_outside:
            inside = (taps >= 0) & (taps < axis.size)
            taps, values = taps[inside], values[inside]
        total = values.sum()
        np.add.at(weights[row], np.clip(taps, 0, axis.size - 1), values / total if total else values)
    return weights


class _Resizer:
    """Resizes tensors; index lists and matrices are kept, as sizes rarely change."""

    def __init__(self, method: _Method) -> None:
        self.method = method
        self.known: dict[tuple[_Axis, torch.device], Tensor] = {}

    def __call__(self, x: Tensor, axes: dict[int, _Axis]) -> Tensor:
        quick = self._by_torch(x, axes)
        if quick is not None:
            return quick
        for position, axis in axes.items():
            if axis.size == axis.wanted and axis.scale == 1.0 and not self.method.crops:
                continue
            along = self._along(axis, x.device)
            if self.method.mode == "nearest":
                x = x.index_select(position, along)
            else:
                dtype = x.dtype
                x = (x.movedim(position, -1).to(along.dtype) @ along.t()).movedim(-1, position).to(dtype)
            if self.method.crops:
                places = _places(axis, self.method.coordinates)
                beyond = torch.from_numpy((places < 0) | (places > axis.size - 1)).to(x.device)
                view = [-1 if i == position else 1 for i in range(x.dim())]
                x = torch.where(beyond.reshape(view), torch.full_like(x, self.method.outside), x)
        return x

    def _by_torch(self, x: Tensor, axes: dict[int, _Axis]) -> Tensor | None:
        """torch's own kernel for images, where it means the same."""
        how, changed = self.method, {i: a for i, a in axes.items() if a.size != a.wanted}
        if x.dim() != 4 or not x.is_floating_point() or not set(changed) <= {2, 3} or how.antialias:
            return None
        if any(abs(a.scale * a.size - a.wanted) > 1e-5 for a in axes.values()):
            return None
        size = tuple(axes[i].wanted if i in axes else x.shape[i] for i in (2, 3))
        if how.mode == "linear" and how.coordinates in ("half_pixel", "align_corners", "pytorch_half_pixel"):
            if how.coordinates == "pytorch_half_pixel" and 1 in size:
                return None
            return functional.interpolate(
                x, size, mode="bilinear", align_corners=how.coordinates == "align_corners"
            )
        if how.mode == "nearest" and how.coordinates == "asymmetric" and how.nearest == "floor":
            return functional.interpolate(x, size, mode="nearest")
        return None

    def _along(self, axis: _Axis, device: torch.device) -> Tensor:
        key = (axis, device)
        if key not in self.known:
            if self.method.mode == "nearest":
                places = _places(axis, self.method.coordinates, single=True)
                index = np.clip(_ROUND[self.method.nearest](places), 0, axis.size - 1)
                self.known[key] = torch.from_numpy(index.astype(np.int64)).to(device)
            else:
                self.known[key] = torch.from_numpy(_matrix(axis, self.method).astype(np.float32)).to(device)
        return self.known[key]


def _by_scales(
    x: Tensor, scales: Sequence[float], axes: Sequence[int], roi: Sequence[float]
) -> dict[int, _Axis]:
    found = {}
    for place, (axis, scale) in enumerate(zip(axes, scales, strict=True)):
        bounds = (roi[place], roi[place + len(axes)]) if roi else (0.0, 1.0)
        span = bounds[1] - bounds[0]
        found[axis] = _Axis(x.shape[axis], math.floor(x.shape[axis] * span * scale + 1e-6), scale, *bounds)
    return found


def _by_sizes(
    x: Tensor, sizes: Sequence[int], axes: Sequence[int], roi: Sequence[float], policy: str
) -> dict[int, _Axis]:
    ratios = [size / x.shape[axis] for size, axis in zip(sizes, axes, strict=True)]
    if policy != "stretch":
        ratio = min(ratios) if policy == "not_larger" else max(ratios)
        sizes = [math.floor(ratio * x.shape[axis] + 0.5) for axis in axes]
        ratios = [ratio] * len(axes)
    found = {}
    for place, (axis, size) in enumerate(zip(axes, sizes, strict=True)):
        bounds = (roi[place], roi[place + len(axes)]) if roi else (0.0, 1.0)
        found[axis] = _Axis(x.shape[axis], size, ratios[place], *bounds)
    return found


@operator("Upsample", since=7, until=8)
def _upsample_by_attribute(node: Node) -> Kernel:
    scales = node.attribute("scales")
    return _old(node, lambda _: scales)


@operator("Upsample", since=9, until=9, host=(1,))
@operator("Resize", since=10, until=10, host=(1,))
def _upsample_by_input(node: Node) -> Kernel:
    return _old(node, lambda scales: scales)


def _old(node: Node, scales_of: Kernel) -> Kernel:
    """Until opset 10 coordinates are asymmetric and nearest means floor."""
    mode = node.attribute("mode", "nearest")
    resize = _Resizer(_Method(mode, "asymmetric", "floor", -0.75, False, False, 0.0))

    def kernel(x: Tensor, given: Sequence[float] | None = None) -> Tensor:
        return resize(x, _by_scales(x, scales_of(given), range(x.dim()), ()))

    return kernel


@operator("Resize", since=11, host=(1, 2, 3))
def _resize(node: Node) -> Kernel:
    method = _Method(
        mode=node.attribute("mode", "nearest"),
        coordinates=node.attribute("coordinate_transformation_mode", "half_pixel"),
        nearest=node.attribute("nearest_mode", "round_prefer_floor"),
        cubic=node.attribute("cubic_coeff_a", -0.75),
        exclude_outside=bool(node.attribute("exclude_outside", 0)),
        antialias=bool(node.attribute("antialias", 0)),
        outside=node.attribute("extrapolation_value", 0.0),
    )
    resize, policy = _Resizer(method), node.attribute("keep_aspect_ratio_policy", "stretch")
    some = node.attribute("axes")

    def kernel(
        x: Tensor,
        roi: Sequence[float] | None = None,
        scales: Sequence[float] | None = None,
        sizes: Sequence[int] | None = None,
    ) -> Tensor:
        axes = list(range(x.dim())) if some is None else [axis % x.dim() for axis in some]
        region = (roi or ()) if method.crops else ()
        if sizes:
            return resize(x, _by_sizes(x, sizes, axes, region, policy))
        return resize(x, _by_scales(x, scales or [1.0] * len(axes), axes, region))

    return kernel
