"""Arithmetic of unsigned integers of 16 and 32 bits, which lie in wider signed ones: results wrap around."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto

from prune_engine.formats.operators.table import Kernel, Node

_MASKS: dict[int, int] = {TensorProto.UINT16: 0xFFFF, TensorProto.UINT32: 0xFFFFFFFF}


def wrapped(node: Node, kernel: Kernel) -> Kernel:
    """`kernel`, with its result cut to the bits of the first input's type, if that is unsigned and known."""
    mask = _MASKS.get(node.types.get(0, TensorProto.UNDEFINED))
    if mask is None:
        return kernel

    def cut(*values: Any) -> Any:
        return kernel(*values) & mask

    return cut
