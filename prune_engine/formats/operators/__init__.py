"""ONNX operator -> torch: one table, one file per family of operators."""

from prune_engine.formats.operators import (
    activation,
    convolution,
    creation,
    elementwise,
    logic,
    matrix,
    normalization,
    padding,
    pooling,
    reduction,
    reshaping,
    resize,
    selection,
)
from prune_engine.formats.operators.table import (
    Kernel,
    Node,
    NotSupportedError,
    Operator,
    find,
    operator,
    rows,
)

__all__ = [
    "Kernel",
    "Node",
    "NotSupportedError",
    "Operator",
    "activation",
    "convolution",
    "creation",
    "elementwise",
    "find",
    "logic",
    "matrix",
    "normalization",
    "operator",
    "padding",
    "pooling",
    "reduction",
    "reshaping",
    "resize",
    "rows",
    "selection",
]
