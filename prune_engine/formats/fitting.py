"""Whether weights have shapes that their nodes can compute with, as far as the file alone can tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onnx import NodeProto, helper

from prune_engine.errors import ModelError
from prune_engine.formats.flow import Flow
from prune_engine.formats.graph import Graph, Shape, domain_of, node_name

_SHOWN = 5


def require_fitting_weights(graph: Graph) -> None:
    """Compares the shapes of weights with what their nodes and the graph's inputs ask for.

    Raises:
        ModelError: names the nodes whose weights cannot fit, and both shapes.
    """
    flow = Flow(graph)
    flow.run()
    wrong = [misfit for node in flow.nodes for misfit in _misfits(graph, flow, node)]
    if wrong:
        more = f" And {len(wrong) - _SHOWN} more." if len(wrong) > _SHOWN else ""
        raise ModelError(
            f"Weights do not fit the nodes that take them: {'; '.join(wrong[:_SHOWN])}.{more} The file is "
            "damaged, or its weights are of another model."
        )


def _misfits(graph: Graph, flow: Flow, node: NodeProto) -> Iterator[str]:
    if domain_of(node) != "" or node.op_type not in _CHECKS:
        return
    inputs = {value.name for value in graph.inputs}
    shapes: list[Shape | None] = []
    for name in node.input:
        alias = flow.aliases.get(name)
        declared = graph.shapes.get(name) if name in inputs else None
        shapes.append(alias.shape if alias is not None else declared)
    if len(node.input) < 2 or not any(name in flow.aliases for name in node.input):
        return
    try:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute if not a.HasField("g")}
        wanted = _CHECKS[node.op_type](shapes, attributes)
    except (TypeError, ValueError):
        return  # an attribute of another type than its operator's, of which onnx's checker tells
    if wanted is not None:
        given = ", ".join(
            f"{name!r} of shape {_text(shape)}"
            for name, shape in zip(node.input, shapes, strict=True)
            if shape
        )
        yield f"{node_name(node)} takes {given}: {wanted}"


def _text(shape: Shape) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def _matmul(shapes: list[Shape | None], attributes: dict[str, Any]) -> str | None:
    left, right = shapes[:2]
    if not left or not right:
        return None
    a, b = left[-1], right[-2] if len(right) > 1 else right[-1]
    return None if _same(a, b) else f"{a} columns meet {b} rows"


def _gemm(shapes: list[Shape | None], attributes: dict[str, Any]) -> str | None:
    left, right = shapes[:2]
    for shape in (left, right):
        if shape is not None and len(shape) != 2:
            return "both must be matrices"
    if left is None or right is None:
        return None
    a, b = left[0 if attributes.get("transA") else 1], right[1 if attributes.get("transB") else 0]
    return None if _same(a, b) else f"{a} columns meet {b} rows"


def _conv(shapes: list[Shape | None], attributes: dict[str, Any]) -> str | None:
    x, w = shapes[:2]
    if w is None:
        return None
    kernel, groups = attributes.get("kernel_shape"), int(attributes.get("group", 1))
    if len(w) < 3:
        return "the weight of a convolution has at least 3 dimensions"
    if kernel is not None and (len(kernel) != len(w) - 2 or not all(map(_same, kernel, w[2:]))):
        return f"kernel_shape says {list(kernel)}"
    if x is None:
        return None
    if len(x) != len(w):
        return f"an input of {len(x)} dimensions meets a weight of {len(w)}"
    channels = None if w[1] is None else w[1] * groups
    return None if _same(x[1], channels) else f"{x[1]} channels meet a weight for {channels}"


def _conv_transpose(shapes: list[Shape | None], attributes: dict[str, Any]) -> str | None:
    x, w = shapes[:2]
    if w is not None and len(w) < 3:
        return "the weight of a convolution has at least 3 dimensions"
    if x is None or w is None:
        return None
    if len(x) != len(w):
        return f"an input of {len(x)} dimensions meets a weight of {len(w)}"
    return None if _same(x[1], w[0]) else f"{x[1]} channels meet a weight for {w[0]}"


def _recurrent(shapes: list[Shape | None], attributes: dict[str, Any]) -> str | None:
    x, w = shapes[:2]
    r = shapes[2] if len(shapes) > 2 else None
    if any(shape is not None and len(shape) != 3 for shape in (x, w, r)):
        return "X, W and R have 3 dimensions"
    if w is not None and r is not None and not _same(w[1], r[1]):
        return f"W is for {w[1]} gates, R for {r[1]}"
    return (
        None if x is None or w is None or _same(x[2], w[2]) else f"{x[2]} features meet a weight for {w[2]}"
    )


def _same(a: int | None, b: int | None) -> bool:
    return a is None or b is None or a == b


_CHECKS = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
}
