"""Rules of `extent_rules` for products, convolutions, pooling and recurrent layers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from prune_engine.formats.extent_rules import RULES, Asked, Sizes, broadcast, rule


@rule("MatMul", "MatMulInteger")
def _matmul(asked: Asked) -> Sequence[Sizes | None]:
    return (product(asked.shape(), asked.shape(1)),)


@rule("QLinearMatMul")
def _quantised_matmul(asked: Asked) -> Sequence[Sizes | None]:
    return (product(asked.shape(), asked.shape(3)),)


def product(left: Sizes, right: Sizes) -> Sizes:
    """The shape of a matrix product."""
    rows = left[-2:-1] if len(left) > 1 else ()
    columns = right[-1:] if len(right) > 1 else ()
    return (*broadcast([left[:-2], right[:-2], ()]), *rows, *columns)


@rule("Gemm")
def _gemm(asked: Asked) -> Sequence[Sizes | None]:
    left, right = asked.shape(), asked.shape(1)
    return ((left[asked.attribute("transA", 0)], right[1 - asked.attribute("transB", 0)]),)


@rule("Einsum")
def _einsum(asked: Asked) -> Sequence[Sizes | None]:
    said = re.fullmatch(r"([a-zA-Z,]+)->([a-zA-Z]*)", asked.attribute("equation", "").replace(" ", ""))
    if not said:
        return (None,)
    sizes: dict[str, int | None] = {}
    for place, letters in enumerate(said[1].split(",")):
        for letter, size in zip(letters, asked.shape(place), strict=True):
            sizes[letter] = sizes.get(letter) or size
    return (tuple(sizes.get(letter) for letter in said[2]),)


@rule("Conv", "ConvInteger", "FusedConv")
def _convolution(asked: Asked) -> Sequence[Sizes | None]:
    return (_convolved(asked, asked.shape(1)),)


@rule("QLinearConv")
def _quantised_convolution(asked: Asked) -> Sequence[Sizes | None]:
    return (_convolved(asked, asked.shape(3)),)


def _convolved(asked: Asked, weight: Sizes) -> Sizes:
    shape = asked.shape()
    return (shape[0], weight[0], *_windows(asked, shape[2:], weight[2:]))


@rule("MaxPool", "AveragePool", "LpPool")
def _pool(asked: Asked) -> Sequence[Sizes | None]:
    shape = asked.shape()
    found = (*shape[:2], *_windows(asked, shape[2:], asked.attribute("kernel_shape")))
    return (found, found)


@rule("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def _global_pool(asked: Asked) -> Sequence[Sizes | None]:
    shape = asked.shape()
    return ((*shape[:2], *[1] * (len(shape) - 2)),)


def _windows(asked: Asked, sizes: Sizes, kernel: Sequence[int | None]) -> Sizes:
    """How many windows there are along each axis; of rounding up or down, down."""
    axes = len(sizes)
    strides = asked.attribute("strides") or [1] * axes
    if asked.attribute("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        return tuple(None if n is None else -(-n // step) for n, step in zip(sizes, strides, strict=True))
    pads = asked.attribute("pads") or [0] * (2 * axes)
    if asked.attribute("auto_pad", "NOTSET") == "VALID":
        pads = [0] * (2 * axes)
    dilations = asked.attribute("dilations") or [1] * axes
    found: list[int | None] = []
    for axis, size in enumerate(sizes):
        width = kernel[axis]
        if width is None:
            return (None,) * axes
        free = (
            (1 if size is None else size) + pads[axis] + pads[axis + axes] - dilations[axis] * (width - 1) - 1
        )
        found.append(max(free // strides[axis] + 1, 0) if size is not None or free > 0 else None)
    return tuple(found)


@rule("ConvTranspose")
def _transposed(asked: Asked) -> Sequence[Sizes | None]:
    shape, weight = asked.shape(), asked.shape(1)
    axes = len(shape) - 2
    channels = None if weight[1] is None else weight[1] * asked.attribute("group", 1)
    if said := asked.attribute("output_shape"):
        return ((shape[0], channels, *said[-axes:]),)
    strides = asked.attribute("strides") or [1] * axes
    pads, more = asked.attribute("pads") or [0] * 2 * axes, asked.attribute("output_padding") or [0] * axes
    dilations = asked.attribute("dilations") or [1] * axes
    grown = [
        strides[axis] * ((shape[axis + 2] or 1) - 1) + more[axis] - pads[axis] - pads[axis + axes]
        + dilations[axis] * ((weight[axis + 2] or 1) - 1) + 1
        for axis in range(axes)
    ]  # fmt: skip
    return ((shape[0], channels, *(max(size, 0) for size in grown)),)


@rule("MaxUnpool")
def _unpool(asked: Asked) -> Sequence[Sizes | None]:
    return (tuple(asked.known(2)),)


@rule("Col2Im")
def _col2im(asked: Asked) -> Sequence[Sizes | None]:
    shape, image, block = asked.shape(), asked.known(1), asked.known(2)
    channels = None if shape[1] is None else shape[1] // math.prod(block)
    return ((shape[0], channels, *image),)


@rule("AffineGrid")
def _affine_grid(asked: Asked) -> Sequence[Sizes | None]:
    size = asked.known(1)
    return ((size[0], *size[2:], len(size) - 2),)


@rule("GridSample")
def _grid_sample(asked: Asked) -> Sequence[Sizes | None]:
    return ((*asked.shape()[:2], *asked.shape(1)[1:-1]),)


@rule("RoiAlign", "MaxRoiPool")
def _regions(asked: Asked) -> Sequence[Sizes | None]:
    height, width = asked.attribute("pooled_shape") or (
        asked.attribute("output_height", 1),
        asked.attribute("output_width", 1),
    )
    return ((asked.shape(1)[0], asked.shape()[1], height, width),)


@rule("DepthToSpace")
def _depth_to_space(asked: Asked) -> Sequence[Sizes | None]:
    shape, block = asked.shape(), asked.attribute("blocksize")
    channels = None if shape[1] is None else shape[1] // block**2
    return ((shape[0], channels, *(None if n is None else n * block for n in shape[2:])),)


@rule("SpaceToDepth")
def _space_to_depth(asked: Asked) -> Sequence[Sizes | None]:
    shape, block = asked.shape(), asked.attribute("blocksize")
    channels = None if shape[1] is None else shape[1] * block**2
    return ((shape[0], channels, *(None if n is None else n // block for n in shape[2:])),)


@rule("Multinomial")
def _multinomial(asked: Asked) -> Sequence[Sizes | None]:
    return ((asked.shape()[0], asked.attribute("sample_size", 1)),)


@rule("LSTM", "GRU", "RNN")
def _recurrent(asked: Asked) -> Sequence[Sizes | None]:
    first, second, _ = asked.shape()
    ways = asked.shape(1)[0]
    width = asked.attribute("hidden_size") or asked.shape(2)[-1]
    if asked.attribute("layout", 0):
        return ((first, second, ways, width), (first, ways, width))
    return ((first, ways, second, width), (ways, second, width))


@rule("CenterCropPad")
def _crop_or_pad(asked: Asked) -> Sequence[Sizes | None]:
    shape, wanted = list(asked.shape()), asked.known(1)
    for axis, size in zip(asked.attribute("axes", range(len(shape))), wanted, strict=True):
        shape[axis] = size
    return (tuple(shape),)


@rule("DFT")
def _dft(asked: Asked) -> Sequence[Sizes | None]:
    shape = list(asked.shape())
    axis = asked.known(2)[0] if asked.has(2) else asked.attribute("axis", 1 if asked.opset < 20 else -2)
    if asked.has(1):
        shape[axis] = asked.known(1)[0]
    size = shape[axis]
    if asked.attribute("onesided", 0) and size is not None:
        shape[axis] = size // 2 + 1
    return ((*shape[:-1], 2),)


__all__ = ["RULES"]
