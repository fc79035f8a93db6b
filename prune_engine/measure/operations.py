"""Multiply-adds of one row: of the dense model, and of the kept weights alone.

Counted are the multiplications of convolutions, matrix products, Einsum, attention, LSTM, GRU and RNN;
padding counts as if it were data, biases, normalisation and activations do not count. A pruned weight saves
its multiplications at every position at which it is used, so a node's effective number is its number times
the kept share of its weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import helper

from prune_engine.formats.flow import Flow
from prune_engine.formats.graph import all_nodes
from prune_engine.formats.reading import read_graph
from prune_engine.measure.runtime import run_session, session
from prune_engine.report import OperationsInfo

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

_WEIGHT_AT = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}
"""Where it is not the second input, for scale and zero point come first."""

_CONVOLUTIONS = frozenset(
    {
        *("Conv", "FusedConv", "NhwcConv", "NhwcFusedConv", "CausalConvWithState"),
        *("QLinearConv", "ConvInteger"),
    }
)
_TRANSPOSED = frozenset({"ConvTranspose", "ConvTransposeWithDynamicPads"})
_PRODUCTS = frozenset(
    {
        *("Gemm", "MatMul", "FusedGemm", "FusedMatMul", "FusedMatMulActivation", "TransposeMatMul"),
        *("GemmFastGelu", "QLinearMatMul", "QGemm"),
        *("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"),
    }
)
_ATTENTIONS = frozenset({"Attention", "MultiHeadAttention", "GroupQueryAttention"})
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_COUNTED = _CONVOLUTIONS | _TRANSPOSED | _PRODUCTS | _ATTENTIONS | _RECURRENT | {"Einsum"}


class ShapeUnknownError(Exception):
    """A shape that the count needs is not known; the text says which."""


@dataclass(frozen=True)
class _Products:
    """Multiply-adds that all have the same operands, of which any may be a weight."""

    count: int
    operands: tuple[str, ...]


def count_operations(
    model: onnx.ModelProto,
    masks: Mapping[str, Array] | None,
    shapes: Mapping[str, Sequence[int]],
) -> int | None:
    """Multiply-adds of one row; with masks, only those with a kept weight. None: see `operations_info`.

    Args:
        model: the model.
        masks: True = kept, by initializer name.
        shapes: of the model's inputs by name, with the batch axis.
    """
    info, _ = operations_info(model, masks or {}, shapes)
    return info.effective


def operations_info(
    model: onnx.ModelProto, masks: Mapping[str, Array], shapes: Mapping[str, Sequence[int]]
) -> tuple[OperationsInfo, str | None]:
    """Both counts, and the reason where they could not be had."""
    try:
        model = _unfolded(model)
        known = measured_shapes(model, shapes)
        info = OperationsInfo(
            before=_count(model, {}, shapes, known), effective=_count(model, masks, shapes, known)
        )
    except ShapeUnknownError as reason:
        return OperationsInfo(before=None, effective=None), f"Multiply-adds could not be counted: {reason}"
    return info, None


def _unfolded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without local functions.

    Raises:
        ShapeUnknownError: it multiplies inside the bodies of If, Loop or Scan; how often, the input decides.
    """
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    outside = len(_counted(model.graph))
    if sum(node.op_type in _COUNTED for node in all_nodes(model.graph.node)) > outside:
        raise ShapeUnknownError("how often the bodies of If, Loop and Scan run depends on the input")
    return model


def _count(
    model: onnx.ModelProto,
    masks: Mapping[str, Array],
    shapes: Mapping[str, Sequence[int]],
    known: Mapping[str, Shape],
) -> int:
    sources = _sources(model)
    batch = max((shape[0] for shape in shapes.values() if len(shape)), default=1)
    total = 0.0
    for node in _counted(model.graph):
        for products in _multiply_adds(node, known):
            shares = [_kept_share(masks, sources.get(name, (name,))) for name in products.operands]
            total += products.count * math.prod(shares)
    return round(total / max(1, batch))


def _counted(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    return [node for node in graph.node if node.op_type in _COUNTED]


def measured_shapes(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> dict[str, Shape]:
    """Shapes of all tensors that the count needs, as onnxruntime gives them on zeros.

    onnx's own shape inference gives up on many real graphs, and on some broken ones it ends the process.

    Raises:
        ShapeUnknownError: the model does not run on zeros.
    """
    known = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    feed = {}
    for value in model.graph.input:
        if value.name in shapes and value.name not in known:
            dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            feed[value.name] = np.zeros(tuple(shapes[value.name]), dtype=dtype)
    known |= {name: array.shape for name, array in feed.items()}
    produced = {name for node in model.graph.node for name in node.output}
    needed = {name for node in _counted(model.graph) for name in (*node.input[:4], node.output[0])}
    wanted = sorted(needed & produced)
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    del exposed.graph.output[:]
    exposed.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted)
    try:
        results = run_session(session(exposed), feed) if wanted else []
    except Exception as error:  # noqa: BLE001  onnxruntime has no common class of errors
        reason = " ".join(str(error).split())[:200]
        raise ShapeUnknownError(f"the model does not run on zeros: {reason}") from None
    return known | {name: tuple(result.shape) for name, result in zip(wanted, results, strict=True)}


def _multiply_adds(node: onnx.NodeProto, known: Mapping[str, Shape]) -> list[_Products]:
    """Multiply-adds of a node for the whole batch."""

    def shape(name: str) -> Shape:
        if name not in known:
            raise ShapeUnknownError(f"the shape of '{name}' at {node.op_type} '{node.name}' is not known")
        return known[name]

    weight = _WEIGHT_AT.get(node.op_type, 1)
    if node.op_type in _CONVOLUTIONS | _TRANSPOSED:
        kernel = shape(node.input[weight])
        positions = shape(node.output[0] if node.op_type in _CONVOLUTIONS else node.input[0])
        return [_Products(math.prod(positions) * math.prod(kernel[1:]), (node.input[weight],))]
    if node.op_type == "Einsum":
        return _einsum(node, [shape(name) for name in node.input])
    if node.op_type in _ATTENTIONS:
        names = [name for name in node.input[:2] if name]
        return _attention(node, [shape(name) for name in names], shape(node.output[0]))
    if node.op_type in _PRODUCTS:
        left = shape(node.input[0])
        moved = 0 if _attribute(node, "transBatchA", 0) else -2
        inner = left[moved] if _attribute(node, "transA", 0) and len(left) > 1 else left[-1]
        operands = node.input[0], node.input[weight]
        return [_Products(math.prod(shape(node.output[0])) * inner, operands)]
    given, first, second = (shape(name) for name in node.input[:3])
    steps = given[0] * given[1]
    return [
        _Products(steps * math.prod(first), (node.input[1],)),
        _Products(steps * math.prod(second), (node.input[2],)),
    ]


def _einsum(node: onnx.NodeProto, given: Sequence[Shape]) -> list[_Products]:
    """One multiplication fewer than there are operands, for every combination of all letters' values."""
    equation = next(attribute.s for attribute in node.attribute if attribute.name == "equation").decode()
    sizes: dict[str, int] = {}
    broadcast: tuple[int, ...] = ()
    for term, sides in zip(equation.replace(" ", "").split("->")[0].split(","), given, strict=True):
        before, _, after = term.partition("...")
        middle = len(sides) - len(after)
        # A side of 1 goes with any other.
        for letter, size in (*zip(before, sides, strict=False), *zip(after, sides[middle:], strict=True)):
            sizes[letter] = max(size, sizes.get(letter, 1))
        broadcast = np.broadcast_shapes(broadcast, sides[len(before) : middle])
    each = math.prod(sizes.values()) * math.prod(broadcast)
    return [_Products((len(given) - 1) * each, tuple(node.input))]


def _attention(node: onnx.NodeProto, given: Sequence[Shape], output: Shape) -> list[_Products]:
    """Queries times keys, weights times values and, where it is fused in, the projection before."""
    query = given[0]
    if node.domain == "com.microsoft" and node.op_type == "Attention":
        columns, values = given[1][1], output[-1]
        inner = math.prod(query[:-1]) * query[1] * ((columns - values) // 2 + values)
        return [_Products(math.prod(query) * columns, (node.input[1],)), _Products(inner, ())]
    key = given[1] if len(given) > 1 else query
    keys = key[2] if len(key) == 4 else key[1]
    packed = len(given) == 1  # query, key and value in one: as wide as the output each
    return [_Products((math.prod(output if packed else query) + math.prod(output)) * keys, ())]


def _sources(model: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """Tensor -> the constants whose values it is made of, moved but not mixed."""
    flow = Flow(read_graph(model))
    flow.run()
    seen = {**flow.integers, **flow.aliases}
    return {name: tuple(source.name for source in alias.sources) for name, alias in seen.items()}


def _kept_share(masks: Mapping[str, Array], sources: Sequence[str]) -> float:
    found = [masks[name] for name in sources if name in masks]
    size = sum(mask.size for mask in found)
    return sum(int(np.count_nonzero(mask)) for mask in found) / size if size else 1.0


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)
