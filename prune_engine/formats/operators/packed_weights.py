"""MatMulNBits (com.microsoft): a matrix product whose weight lies packed, several values in a byte."""

from __future__ import annotations

import torch
from torch import Tensor

from prune_engine.formats.operators.quantization import MICROSOFT
from prune_engine.formats.operators.table import Kernel, Node, NotSupportedError, operator

_WIDTHS = (2, 4, 8)


def unpacked(packed: Tensor, bits: int) -> Tensor:
    """The values of bytes that hold `8 / bits` of them each, lowest bits first, along the last axis."""
    shifts = torch.arange(0, 8, bits, device=packed.device, dtype=torch.int32)
    values: Tensor = (packed.to(torch.int32).unsqueeze(-1) >> shifts) & (2**bits - 1)
    return values.flatten(-2)


@operator("MatMulNBits", since=1, domain=MICROSOFT)
def _matmul_n_bits(node: Node) -> Kernel:
    """The weight is [N, blocks of K, bytes]; a block has a scale and a zero point, by default the middle."""
    bits, block = node.attribute("bits", 4), node.attribute("block_size")
    inner, outer = node.attribute("K"), node.attribute("N")
    blocks = -(-inner // block)
    if bits not in _WIDTHS:
        raise NotSupportedError(f"weights of {bits} bits", "Quantise the weights to 2, 4 or 8 bits.")
    if node.has_input(4):
        raise NotSupportedError("g_idx", "Quantise the weights without reordering their groups.")
    if node.attribute("weight_prepacked", 0):
        raise NotSupportedError("weights packed for one processor", "Send the file before it was prepacked.")

    def zeros(points: Tensor | None) -> Tensor | float:
        if points is None:
            return float(2 ** (bits - 1))
        if points.is_floating_point():
            return points.reshape(outer, blocks, 1)
        return unpacked(points.reshape(outer, -1), bits)[:, :blocks].unsqueeze(-1)

    def kernel(
        a: Tensor,
        packed: Tensor,
        scales: Tensor,
        points: Tensor | None = None,
        _g_idx: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        whole = unpacked(packed.reshape(outer, blocks, -1), bits)
        weight = (whole - zeros(points)) * scales.reshape(outer, blocks, 1)
        return torch.nn.functional.linear(a, weight.reshape(outer, -1)[:, :inner], bias)

    return kernel
