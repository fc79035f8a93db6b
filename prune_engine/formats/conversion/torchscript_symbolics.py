"""Operators that torch's TorchScript-based exporter lacks, written in ONNX."""

from __future__ import annotations

from typing import Any

import torch
from onnx import TensorProto

# torch's numbers of its dtypes, as graphs hold them
_ONNX_TYPES = {
    3: TensorProto.INT32,
    4: TensorProto.INT64,
    5: TensorProto.FLOAT16,
    6: TensorProto.FLOAT,
    7: TensorProto.DOUBLE,
}


def register_symbolics(opset: int) -> None:
    """Adds the operators to the exporter of this process."""
    _register = torch.onnx.register_custom_op_symbolic  # type: ignore[attr-defined]
    _register("aten::unflatten", _unflatten, opset)
    _register("aten::diff", _diff, opset)
    _register("aten::cumsum", _cumsum, opset)


def _constant(g: Any, values: list[int]) -> Any:
    return g.op("Constant", value_t=torch.tensor(values, dtype=torch.int64))


def _number(value: Any) -> int:
    """The Python number behind a constant node."""
    node = value.node()
    return int(node.t("value")) if node.kind() == "onnx::Constant" else int(value.toIValue())


def _cumsum(g: Any, x: Any, dim: Any, dtype: Any = None) -> Any:
    """Sums of booleans are whole numbers in torch; ONNX sums no booleans."""
    wanted = None if dtype is None or dtype.node().mustBeNone() else _number(dtype)
    kind = x.type().scalarType()
    if wanted is not None:
        x = g.op("Cast", x, to_i=_ONNX_TYPES[wanted])
    elif kind not in ("Float", "Double", "Long", "Int"):
        x = g.op("Cast", x, to_i=TensorProto.FLOAT if kind in ("Half", "BFloat16") else TensorProto.INT64)
    return g.op("CumSum", x, _constant(g, [_number(dim)]))


def _unflatten(g: Any, x: Any, dim: Any, sizes: Any, *_: Any) -> Any:
    """Reshape to shape[:dim] + sizes + shape[dim + 1:]."""
    axis, rank = _number(dim), x.type().dim()
    if axis < 0:
        if rank is None:
            raise RuntimeError("aten::unflatten with a negative axis of a tensor of unknown rank")
        axis += rank
    shape = g.op("Shape", x)
    zero, end = _constant(g, [0]), _constant(g, [2**62])
    before = g.op("Slice", shape, zero, _constant(g, [axis]), zero)
    after = g.op("Slice", shape, _constant(g, [axis + 1]), end, zero)
    if sizes.node().kind() == "prim::ListConstruct":
        parts = [
            g.op("Unsqueeze", s, zero) if s.type().dim() in (0, None) else s for s in sizes.node().inputs()
        ]
        middle = g.op("Concat", *parts, axis_i=0)
    else:
        middle = sizes
    return g.op("Reshape", x, g.op("Concat", before, middle, after, axis_i=0))


def _diff(g: Any, x: Any, n: Any, dim: Any, prepend: Any, append: Any) -> Any:
    """First differences along an axis."""
    if _number(n) != 1:
        raise RuntimeError("aten::diff of an order other than 1")
    axis = _number(dim)
    ends = [part for part in (prepend, x, append) if part.node().kind() != "prim::Constant"]
    whole = g.op("Concat", *ends, axis_i=axis) if len(ends) > 1 else x
    axes, big = _constant(g, [axis]), _constant(g, [2**62])
    later = g.op("Slice", whole, _constant(g, [1]), big, axes)
    return g.op("Sub", later, g.op("Slice", whole, _constant(g, [0]), _constant(g, [-1]), axes))
