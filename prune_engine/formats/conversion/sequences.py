"""Sequences whose elements are known when the graph is read, replaced by the tensors that they hold.

Exporters write Python lists as sequences: made from tensors, appended to, joined or taken apart by number.
Where every step is known, Concat, Split and Identity say the same, and training needs no sequences.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from prune_engine.formats.graph import constant_tensor


def without_sequences(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Changes the main graph in place; a sequence of which something is not known stays as it is."""
    graph = proto.graph
    constants, shapes = known_integers(graph), declared_sizes(graph)
    wanted = {value.name for value in graph.output}
    held: dict[str, list[str]] = {}
    nodes: list[NodeProto] = []
    for node in graph.node:
        elements = _elements(node, held, constants)
        if elements is not None and node.output[0] not in wanted:
            held[node.output[0]] = elements
        elif node.op_type == "SplitToSequence" and (lengths := _lengths(node, constants, shapes)):
            split, held[node.output[0]] = _split(graph, node, lengths)
            nodes.append(split)
            continue
        elif (plain := _plain(node, held, constants)) is not None:
            nodes.append(plain)
            continue
        nodes.append(node)
    kept = _needed(nodes, wanted)
    copies = [NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(copies)
    gone = set(held) - {name for node in copies for name in node.output}
    infos = [value for value in graph.value_info if value.name not in gone]
    if len(infos) < len(graph.value_info):
        infos = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in infos]
        del graph.value_info[:]
        graph.value_info.extend(infos)
    return proto


def declared_sizes(graph: onnx.GraphProto) -> dict[str, list[int | None]]:
    """The sizes that the file declares for its values, None for those that are not fixed."""
    return {
        value.name: [
            d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim
        ]
        for value in (*graph.input, *graph.value_info)
        if value.type.tensor_type.HasField("shape")
    }


def known_integers(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """The whole numbers that Constant nodes and initializers of rank 0 or 1 hold."""
    tensors = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.INT64}
    for node in graph.node:
        constant = constant_tensor(node)
        if constant is not None and constant.data_type == TensorProto.INT64:
            tensors[node.output[0]] = constant
    return {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items() if len(tensor.dims) <= 1}


def attribute(node: NodeProto, name: str, default: int) -> int:
    """An integer attribute."""
    return next((int(found.i) for found in node.attribute if found.name == name), default)


def _elements(
    node: NodeProto, held: dict[str, list[str]], constants: dict[str, np.ndarray]
) -> list[str] | None:
    """The tensors in the sequence that a node makes; None where that is not known, or it makes none."""
    if node.op_type == "SequenceEmpty":
        return []
    if node.op_type == "SequenceConstruct":
        return list(node.input)
    before = held.get(node.input[0]) if node.input else None
    if before is None or node.op_type not in ("SequenceInsert", "SequenceErase", "Identity"):
        return None
    if node.op_type == "Identity":
        return before
    number = node.input[-1] if len(node.input) == (3 if node.op_type == "SequenceInsert" else 2) else ""
    if number and number not in constants:
        return None
    after = list(before)
    if node.op_type == "SequenceErase":
        del after[int(constants[number]) if number else -1]
    else:
        after.insert(int(constants[number]) if number else len(after), node.input[1])
    return after


def _plain(node: NodeProto, held: dict[str, list[str]], constants: dict[str, np.ndarray]) -> NodeProto | None:
    """A node that takes tensors in place of one that takes a sequence of which all is known."""
    elements = held.get(node.input[0]) if node.input else None
    if elements is None:
        return None
    if node.op_type == "SequenceAt" and node.input[1] in constants:
        place = int(constants[node.input[1]])
        if -len(elements) <= place < len(elements):
            return helper.make_node("Identity", [elements[place]], list(node.output), name=node.name)
    if node.op_type == "SequenceLength":
        count = numpy_helper.from_array(np.array(len(elements), np.int64))
        return helper.make_node("Constant", [], list(node.output), name=node.name, value=count)
    if node.op_type == "ConcatFromSequence" and elements and not attribute(node, "new_axis", 0):
        axis = attribute(node, "axis", 0)
        return helper.make_node("Concat", elements, list(node.output), name=node.name, axis=axis)
    return None


def _split(graph: onnx.GraphProto, node: NodeProto, lengths: list[int]) -> tuple[NodeProto, list[str]]:
    parts = [f"{node.output[0]}_part_{index}" for index in range(len(lengths))]
    said, axis = f"{node.output[0]}_lengths", attribute(node, "axis", 0)
    graph.initializer.append(numpy_helper.from_array(np.array(lengths, np.int64), said))
    return helper.make_node("Split", [node.input[0], said], parts, name=node.name, axis=axis), parts


def _lengths(
    node: NodeProto, constants: dict[str, np.ndarray], shapes: dict[str, list[int | None]]
) -> list[int] | None:
    """The lengths of the parts; None where they are not known, or the split axis is dropped."""
    if len(node.input) < 2 or node.input[1] not in constants:
        return None
    given = constants[node.input[1]]
    if given.ndim == 1:
        return [int(length) for length in given]
    axis, shape = attribute(node, "axis", 0), shapes.get(node.input[0], [])
    whole = shape[axis] if -len(shape) <= axis < len(shape) else None
    if whole is None or int(given) < 1:
        return None
    full, rest = divmod(whole, int(given))
    return [int(given)] * full + ([rest] if rest else [])


def _needed(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """The nodes without the makers of sequences that nothing reads any more."""
    makers = ("SequenceEmpty", "SequenceConstruct", "SequenceInsert", "SequenceErase")
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if node.op_type in makers and not wanted & set(node.output):
            continue
        wanted |= set(node.input) | {name for held in node.attribute for name in _captured(held)}
        kept.append(node)
    return kept[::-1]


def _captured(held: onnx.AttributeProto) -> set[str]:
    """Every name that a subgraph reads, its own among them."""
    bodies = [held.g, *held.graphs] if held.HasField("g") else list(held.graphs)
    names: set[str] = set()
    for body in bodies:
        names |= {value.name for value in body.output}
        for node in body.node:
            names |= set(node.input) | {name for inner in node.attribute for name in _captured(inner)}
    return names
