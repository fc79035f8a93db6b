"""Names of values that are unique in a whole file, bodies of If, Loop and Scan included.

ONNX lets two branches use one name for different values. A value of a body keeps its own name where nothing
else in the file has it, and is called ``<node>/<attribute>/<name>`` otherwise. Values of the outermost graph
keep their names always. Constants are known to users by these names, so they follow from the file alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx
from onnx import AttributeProto, NodeProto, TensorProto

CONTROL_FLOW = ("If", "Loop", "Scan")


@dataclass(frozen=True)
class Scope:
    """The names of one graph's own values, and the scopes of the bodies of its nodes.

    `bodies` has a scope for every attribute that holds a graph, by the node's index and the attribute's name.
    """

    graph: onnx.GraphProto
    names: Mapping[str, str]
    bodies: Mapping[tuple[int, str], Scope]


class Namer:
    """Hands out names that nobody else has."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def fresh(self, name: str) -> str:
        """`name`, or `name` with a number behind it where it is taken."""
        found, count = name, 1
        while found in self._taken:
            count += 1
            found = f"{name}#{count}"
        self._taken.add(found)
        return found


def name_scopes(graph: onnx.GraphProto) -> tuple[Scope, Namer]:
    """The scopes of a model's graph, and the namer for whatever is unfolded into it later."""
    defined = Counter(name for body in _graphs(graph) for name in own_names(body))
    outer = dict.fromkeys(own_names(graph))
    single = {name for name, count in defined.items() if count == 1 or name in outer}
    namer = Namer(single)

    def scope(body: onnx.GraphProto, prefix: str | None) -> Scope:
        names = {}
        for name in own_names(body):
            own = prefix is None or (name in single and name not in outer)
            names[name] = name if own else namer.fresh(f"{prefix}/{name}")
        bodies = {
            (index, attribute.name): scope(attribute.g, f"{label(node)}/{attribute.name}")
            for index, node in enumerate(body.node)
            for attribute in bodies_of(node)
        }
        return Scope(body, names, bodies)

    return scope(graph, None), namer


def stored_constants(scope: Scope) -> Iterator[tuple[str, TensorProto | NodeProto]]:
    """Unique name -> the initializer or the Constant node that holds the values, bodies included."""
    for tensor in scope.graph.initializer:
        if tensor.name:
            yield scope.names[tensor.name], tensor
    for node in scope.graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and any(node.output[:1]):
            yield scope.names[node.output[0]], node
    for inner in scope.bodies.values():
        yield from stored_constants(inner)


def bodies_of(node: NodeProto) -> Iterator[AttributeProto]:
    """The attributes of a node that hold a graph."""
    return (attribute for attribute in node.attribute if attribute.HasField("g"))


def label(node: NodeProto) -> str:
    """What a node is called in the names of the values inside it."""
    return node.name or next((name for name in node.output if name), node.op_type)


def own_names(graph: onnx.GraphProto) -> list[str]:
    """The names that a graph itself defines, each once: inputs, initializers, results of nodes."""
    names = [value.name for value in graph.input]
    names += [tensor.name for tensor in graph.initializer]
    names += [sparse.values.name for sparse in graph.sparse_initializer]
    names += [name for node in graph.node for name in node.output]
    return [name for name in dict.fromkeys(names) if name]


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in bodies_of(node):
            yield from _graphs(attribute.g)


def unfolded(graph: onnx.GraphProto, prefix: str, namer: Namer) -> Scope:
    """The scope of a graph that is not part of the file's own: every name goes behind `prefix`."""
    bodies = {
        (index, attribute.name): unfolded(attribute.g, f"{prefix}/{label(node)}/{attribute.name}", namer)
        for index, node in enumerate(graph.node)
        for attribute in bodies_of(node)
    }
    return Scope(graph, {name: namer.fresh(f"{prefix}/{name}") for name in own_names(graph)}, bodies)
