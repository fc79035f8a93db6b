"""Integers that are carried in float32, so that gradients pass from QuantizeLinear to DequantizeLinear.

torch has gradients for floats only. What an operator of quantised arithmetic computes stays in float32, whole
numbers all the same, through everything that only moves values; whoever needs real integers gets them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx import TensorProto
from torch import Tensor

from prune_engine.formats.operators.dtypes import INTEGER_RANGES, compute_dtype
from prune_engine.formats.operators.table import Kernel, Node

Results = Callable[[Node], Sequence[int]]

_RESULTS: dict[tuple[str, str], Results] = {}
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
_ARITHMETIC = frozenset(
    [
        *("Add", "Sub", "Mul", "Div", "Mod", "Pow", "Neg", "Abs", "Sqrt", "Reciprocal"),
        *("Floor", "Ceil", "Round", "Min", "Max"),
    ]
)
_MOVING = frozenset(
    [
        "Identity",
        "Reshape",
        "Transpose",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Expand",
        "Tile",
        "Slice",
        "Split",
        "Concat",
        "Gather",
        "GatherElements",
        "GatherND",
        "Pad",
        "DepthToSpace",
        "SpaceToDepth",
        "MaxPool",
        "GlobalMaxPool",
        "Dropout",
    ]
)


def carries(*names: str, domain: str = "") -> Callable[[Results], Results]:
    """Registers the ONNX element types of the outputs of operators whose kernels compute in float32."""

    def register(results: Results) -> Results:
        for name in names:
            _RESULTS[(domain, name)] = results
        return results

    return register


def _moves(node: Node) -> bool:
    nearest = node.operator == "Resize" and node.attribute("mode", "nearest") == "nearest"
    return node.operator in _MOVING or nearest


def carried_results(node: Node, given: Sequence[int | None]) -> tuple[int | None, ...] | None:
    """The integer types that the outputs of a node carry in float32; None for outputs that carry none.

    Args:
        given: the types that its inputs carry.

    Returns:
        None where the operator computes with integers: it must not be given carried ones.
    """
    results = _RESULTS.get((node.domain, node.operator))
    if results is not None:
        return tuple(kind if kind in INTEGER_RANGES else None for kind in results(node))
    first = next((kind for kind in given if kind is not None), None)
    if first is None or node.domain != "":
        return None
    if _moves(node):
        return (first, *[first if node.operator == "Split" else None for _ in node.outputs[1:]])
    if node.operator in ("Shape", "Size") or (node.operator == "Cast" and node.attribute("to") in _FLOATS):
        return (None,)
    return None


def element_types(node: Node) -> Sequence[int]:
    """The ONNX element types of a node's outputs, as far as they are told by the node alone."""
    results = _RESULTS.get((node.domain, node.operator))
    if results is not None:
        return results(node)
    if node.operator == "Cast" and node.domain == "":
        return (node.attribute("to"),)
    if node.operator in _ARITHMETIC and node.domain == "" and 0 in node.types:
        return (node.types[0],)
    if _moves(node) and node.domain == "" and 0 in node.types:
        return (node.types[0], *[node.types[0] for _ in node.outputs[1:] if node.operator == "Split"])
    return ()


def exact(element_type: int) -> Kernel:
    """A kernel: carried integers as integers."""
    dtype = compute_dtype(element_type)

    def kernel(x: Tensor) -> Tensor:
        return x.to(dtype)

    return kernel
