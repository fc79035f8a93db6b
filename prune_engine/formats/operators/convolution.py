"""Convolution and its transpose, over one to three spatial axes."""

from __future__ import annotations

from functools import partial

from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators.table import Kernel, Node, operator
from prune_engine.formats.operators.windows import pad, window

_FORWARD = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


def _by_weight(node: Node, build: Kernel) -> Kernel:
    """`kernel_shape` is optional: without it the kernel is built when the weight is seen."""
    shape = node.attribute("kernel_shape")
    if shape:
        built: Kernel = build(node, tuple(shape))
        return built

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        result: Tensor = build(node, tuple(weight.shape[2:]))(x, weight, bias)
        return result

    return kernel


@operator("Conv")
def _conv(node: Node) -> Kernel:
    return _by_weight(node, _conv_of)


def _conv_of(node: Node, shape: tuple[int, ...]) -> Kernel:
    frame, groups = window(node, shape), node.attribute("group", 1)
    convolve = _FORWARD[len(shape)]
    if frame.symmetric:
        strides, padding, dilations = frame.strides, frame.padding, frame.dilations

        def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            return convolve(x, weight, bias, strides, padding, dilations, groups)

        return kernel

    def padded(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        x = pad(x, frame.pads_for(x.shape[2:]))
        return convolve(x, weight, bias, frame.strides, 0, frame.dilations, groups)

    return padded


@operator("ConvTranspose")
def _conv_transpose(node: Node) -> Kernel:
    return _by_weight(node, _conv_transpose_of)


def _conv_transpose_of(node: Node, shape: tuple[int, ...]) -> Kernel:
    """Computed without padding and then cropped, which covers asymmetric pads and `output_shape`."""
    frame, rank = window(node, shape), len(shape)
    extra = tuple(node.attribute("output_padding") or [0] * rank)
    wanted = node.attribute("output_shape")
    transpose = partial(
        _TRANSPOSED[rank], stride=frame.strides, groups=node.attribute("group", 1), dilation=frame.dilations
    )
    if (
        wanted is None
        and frame.symmetric
        and all(e < max(s, d) for e, s, d in zip(extra, frame.strides, frame.dilations, strict=True))
    ):
        return partial(_whole, transpose, frame.padding, extra)

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        full = pad(transpose(x, weight), (0,) * rank + extra)
        for axis in range(rank):
            size, begin = full.shape[2 + axis], frame.pads[axis]
            length = size - begin - frame.pads[axis + rank]
            if wanted is not None or frame.automatic:
                length = x.shape[2 + axis] * frame.strides[axis] if wanted is None else wanted[axis]
                begin = _begin(max(size - length, 0), frame.auto_pad)
            short = max(begin + length - size, 0)
            full = pad(full, (0,) * rank + tuple(short if a == axis else 0 for a in range(rank)))
            full = full.narrow(2 + axis, begin, length)
        return full if bias is None else full + bias.view(-1, *[1] * rank)

    return kernel


def _whole(
    transpose: Kernel,
    padding: tuple[int, ...],
    extra: tuple[int, ...],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    result: Tensor = transpose(x, weight, bias, padding=padding, output_padding=extra)
    return result


def _begin(total: int, auto_pad: str) -> int:
    """The specification gives the odd element to the end for SAME_UPPER, to the beginning otherwise."""
    return total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
