"""Padding and window arithmetic that convolution and pooling share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators.table import Node, NotSupportedError


@dataclass(frozen=True)
class Window:
    """A sliding window over the spatial axes of an [N, C, ...] tensor; `pads` is (begin..., end...)."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str

    @property
    def automatic(self) -> bool:
        """Whether the pads depend on the size of the input."""
        return self.auto_pad in ("SAME_UPPER", "SAME_LOWER")

    @property
    def symmetric(self) -> bool:
        """Whether both ends of every axis are padded alike, which torch can do itself."""
        half = len(self.pads) // 2
        return not self.automatic and self.pads[:half] == self.pads[half:]

    @property
    def padding(self) -> tuple[int, ...]:
        """The pads of one end, for torch; meaningful where `symmetric`."""
        return self.pads[: len(self.pads) // 2]

    def pads_for(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """The pads (begin..., end...) for an input with these spatial sizes."""
        if not self.automatic:
            return self.pads
        begins, ends = [], []
        for size, kernel, stride, dilation in zip(
            sizes, self.kernel, self.strides, self.dilations, strict=True
        ):
            covered = (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1
            total = max(covered - size, 0)
            small = total // 2
            begins.append(small if self.auto_pad == "SAME_UPPER" else total - small)
            ends.append(total - begins[-1])
        return (*begins, *ends)


def window(node: Node, kernel: Sequence[int]) -> Window:
    """The window that a node's attributes describe, for a kernel of the given spatial sizes.

    Raises:
        NotSupportedError: torch has no windows over so many axes.
    """
    rank = len(kernel)
    if rank not in (1, 2, 3):
        raise NotSupportedError(f"{rank} spatial axes", "Use one to three spatial axes.")
    auto_pad = node.attribute("auto_pad", "NOTSET")
    pads = [0] * (2 * rank) if auto_pad == "VALID" else node.attribute("pads", [0] * (2 * rank))
    return Window(
        kernel=tuple(kernel),
        strides=tuple(node.attribute("strides") or [1] * rank),
        dilations=tuple(node.attribute("dilations") or [1] * rank),
        pads=tuple(pads) or (0,) * (2 * rank),
        auto_pad=auto_pad,
    )


def pad(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    """Pads the spatial axes of `x` with a constant; `pads` is ONNX's (begin..., end...)."""
    half = len(pads) // 2
    flat = [p for axis in reversed(range(half)) for p in (pads[axis], pads[axis + half])]
    return functional.pad(x, flat, value=value) if any(flat) else x
