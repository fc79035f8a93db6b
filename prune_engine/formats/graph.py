"""An ONNX graph as the importer walks it: nodes in order of computation, constants, who uses what."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from prune_engine.errors import ModelError

ONNX_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Graph:
    """A graph whose values are all defined and that has no cycle.

    `constants` holds the initializers and the tensors of Constant nodes, by value name. `inputs` are the
    graph inputs that are not initializers (files of IR 3 list both).
    """

    nodes: tuple[NodeProto, ...]
    constants: Mapping[str, TensorProto]
    inputs: tuple[ValueInfoProto, ...]
    outputs: tuple[ValueInfoProto, ...]
    opsets: Mapping[str, int]

    @cached_property
    def consumers(self) -> Mapping[str, list[tuple[NodeProto, int]]]:
        """Value name -> the nodes that read it, with the position of the input."""
        users: dict[str, list[tuple[NodeProto, int]]] = defaultdict(list)
        for node in self.nodes:
            for position, name in enumerate(node.input):
                if name:
                    users[name].append((node, position))
        return users

    @cached_property
    def producers(self) -> Mapping[str, NodeProto]:
        """Value name -> the node that computes it."""
        return {name: node for node in self.nodes for name in node.output if name}


def all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            bodies = [attribute.g] if attribute.HasField("g") else attribute.graphs
            for body in bodies:
                yield from all_nodes(body.node)


def node_name(node: NodeProto) -> str:
    """What to call a node in messages: its name, or what it computes where it has none."""
    return node.name or f"{node.op_type} that computes {next(iter(node.output), '?')!r}"


def domain_of(node: NodeProto) -> str:
    """The domain of a node's operator; the ONNX domain is ""."""
    return "" if node.domain in ONNX_DOMAINS else str(node.domain)


def opset_versions(proto: onnx.ModelProto) -> dict[str, int]:
    """Domain -> opset; the ONNX domain is "".

    Raises:
        ModelError: the ONNX opset is missing, or one domain is imported at two versions.
    """
    versions: dict[str, int] = {}
    for entry in proto.opset_import:
        domain = "" if entry.domain in ONNX_DOMAINS else entry.domain
        if versions.setdefault(domain, entry.version) != entry.version:
            raise ModelError(
                f"The file imports the operators of {domain or 'ai.onnx'!r} at two versions, "
                f"{versions[domain]} and {entry.version}; it must name one. Export it again."
            )
    if "" not in versions:
        if not versions and proto.ir_version >= 3:
            raise ModelError("The file does not say which opset of ai.onnx it uses. Export it again.")
        versions[""] = 1
    return versions


def read_graph(proto: onnx.ModelProto) -> Graph:
    """The graph of a model, sorted.

    Raises:
        ModelError: a value is used but never defined, defined twice, or depends on itself.
    """
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    inputs = tuple(value for value in graph.input if value.name not in constants)
    nodes = _sorted(graph, {value.name for value in inputs} | set(constants))
    for node in nodes:
        tensor = constant_tensor(node)
        if tensor is not None:
            constants[node.output[0]] = tensor
    return Graph(nodes, constants, inputs, tuple(graph.output), opset_versions(proto))


def constant_tensor(node: NodeProto) -> TensorProto | None:
    """The tensor that a Constant node holds, or None for other nodes and other kinds of constants."""
    if node.op_type != "Constant" or node.domain not in ONNX_DOMAINS or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        tensor: TensorProto = attribute.t
        return tensor
    if attribute.name in ("value_float", "value_int"):
        value = attribute.f if attribute.name == "value_float" else attribute.i
        kind = TensorProto.FLOAT if attribute.name == "value_float" else TensorProto.INT64
        return helper.make_tensor(node.output[0], kind, [], [value])
    if attribute.name in ("value_floats", "value_ints"):
        values = attribute.floats if attribute.name == "value_floats" else attribute.ints
        kind = TensorProto.FLOAT if attribute.name == "value_floats" else TensorProto.INT64
        return helper.make_tensor(node.output[0], kind, [len(values)], list(values))
    return None


def captured_values(node: NodeProto) -> set[str]:
    """Values of the outer graph that a node's subgraphs read; empty for a node without any."""
    names: set[str] = set()
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
            own = {v.name for v in body.input} | {t.name for t in body.initializer}
            own |= {name for inner in body.node for name in inner.output}
            for inner in body.node:
                names |= ({name for name in inner.input if name} | captured_values(inner)) - own
            names |= {value.name for value in body.output} - own
    return names


def _sorted(graph: onnx.GraphProto, known: set[str]) -> tuple[NodeProto, ...]:
    """Kahn's algorithm; among nodes that are ready the file's own order is kept."""
    producer: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in node.output:
            if name and (name in producer or name in known):
                raise ModelError(f"The graph defines the value {name!r} twice. The file is damaged.")
            if name:
                producer[name] = index
    waiting: list[int] = []
    users: dict[int, list[int]] = defaultdict(list)
    for index, node in enumerate(graph.node):
        needs = {name for name in node.input if name} | captured_values(node)
        for name in needs - known:
            if name not in producer:
                raise ModelError(
                    f"{node_name(node)} reads {name!r}, which is no input, no initializer and no "
                    "node's output. "
                    "The file is incomplete: its weights may be missing. Export it again."
                )
        before = {producer[name] for name in needs - known}
        waiting.append(len(before))
        for other in before:
            users[other].append(index)
    for value in graph.output:
        if value.name not in producer and value.name not in known:
            raise ModelError(f"Nothing computes the graph output {value.name!r}. The file is incomplete.")
    ready = [index for index, count in enumerate(waiting) if count == 0]
    heapq.heapify(ready)
    order = []
    while ready:
        index = heapq.heappop(ready)
        order.append(graph.node[index])
        for user in users[index]:
            waiting[user] -= 1
            if waiting[user] == 0:
                heapq.heappush(ready, user)
    if len(order) < len(graph.node):
        stuck = next(node for node, count in zip(graph.node, waiting, strict=True) if count)
        raise ModelError(
            f"The graph has a cycle: {node_name(stuck)} needs its own output. The file is damaged."
        )
    return tuple(order)
