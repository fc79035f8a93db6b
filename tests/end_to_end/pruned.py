"""What tests look for in a pruned file, counted here and not by the engine."""

from __future__ import annotations

import numpy as np
import onnx


def weights(model: bytes) -> dict[str, np.ndarray]:
    """Initializers of two and more dimensions that convolutions and matrix products multiply with."""
    proto = onnx.load_from_string(model)
    used = {
        name
        for node in proto.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul")
        for name in node.input[:2]
    }
    return {
        item.name: onnx.numpy_helper.to_array(item)
        for item in proto.graph.initializer
        if item.name in used and len(item.dims) >= 2
    }


def nonzero(model: bytes) -> tuple[int, int]:
    """Non-zero weights and all weights."""
    arrays = weights(model).values()
    return sum(int(np.count_nonzero(array)) for array in arrays), sum(array.size for array in arrays)
