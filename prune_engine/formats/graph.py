"""An ONNX graph as the importer walks it: nodes in order of computation, bodies, constants, who uses what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import onnx
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper

from prune_engine.errors import ModelError, OutOfMemoryError, PruneError
from prune_engine.formats.sparse import dense_tensor
from prune_engine.memory import is_out_of_memory

ONNX_DOMAINS = ("", "ai.onnx")
NONSENSE = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
)
"""What Python and torch raise on the values of a damaged file."""
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Body:
    """The graph inside an If, Loop or Scan.

    Args:
        results: the outputs as the file declares them.
        captured: the values of outer graphs that it reads.
    """

    inputs: tuple[str, ...]
    nodes: tuple[NodeProto, ...]
    outputs: tuple[str, ...]
    results: tuple[ValueInfoProto, ...]
    captured: frozenset[str]


@dataclass(frozen=True)
class Graph:
    """A graph whose values are all defined and that has no cycle. Calls of local functions are unfolded.

    Every value has a name that is unique in bodies and functions too (`formats.scopes`).

    Args:
        nodes: of the outermost graph, without Constant nodes.
        constants: initializers and the tensors of Constant nodes, those of bodies included.
        inputs: the graph inputs that are not initializers (files of IR 3 list both).
        bodies: by the first result of the node, and the attribute's name.
        shapes: what the file declares, None where a size is not a number.
        types: the ONNX element types that the file declares.
        sparse: the constants that the file stores as sparse tensors.
        in_functions: the constants that lie inside local functions.
        function_opsets: the opsets of nodes that come from a local function, by their first result.
    """

    nodes: tuple[NodeProto, ...]
    constants: Mapping[str, TensorProto]
    inputs: tuple[ValueInfoProto, ...]
    outputs: tuple[ValueInfoProto, ...]
    opsets: Mapping[str, int]
    bodies: Mapping[str, Mapping[str, Body]] = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    types: Mapping[str, int] = field(default_factory=dict)
    sparse: frozenset[str] = frozenset()
    in_functions: frozenset[str] = frozenset()
    function_opsets: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def bodies_of(self, node: NodeProto) -> Mapping[str, Body]:
        """The bodies of an If, Loop or Scan by attribute name; empty for other nodes."""
        return self.bodies.get(result_name(node), {})

    def captured(self, node: NodeProto) -> frozenset[str]:
        """The values that a node's bodies read from outside."""
        return frozenset().union(*(body.captured for body in self.bodies_of(node).values()))

    def opset(self, node: NodeProto) -> int:
        """The version at which a node's operator is meant."""
        domain = domain_of(node)
        own = self.function_opsets.get(result_name(node), self.opsets)
        return own.get(domain, self.opsets.get(domain, 1))

    @cached_property
    def every_node(self) -> tuple[NodeProto, ...]:
        """The nodes and those of all bodies."""
        return tuple(self._with_bodies(self.nodes))

    def _with_bodies(self, nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
        for node in nodes:
            yield node
            for body in self.bodies_of(node).values():
                yield from self._with_bodies(body.nodes)

    @cached_property
    def consumers(self) -> Mapping[str, list[tuple[NodeProto, int]]]:
        """Value name -> the nodes that read it, with the position of the input."""
        users: dict[str, list[tuple[NodeProto, int]]] = defaultdict(list)
        for node in self.every_node:
            for position, name in enumerate(node.input):
                if name:
                    users[name].append((node, position))
        return users

    @cached_property
    def producers(self) -> Mapping[str, NodeProto]:
        """Value name -> the node that computes it."""
        return {name: node for node in self.every_node for name in node.output if name}


def graphs_in(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs that a node holds in its attributes, not those within them."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and all that its nodes hold."""
    yield graph
    for node in graph.node:
        for body in graphs_in(node):
            yield from all_graphs(body)


def all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes and those of their subgraphs."""
    for node in nodes:
        yield node
        for body in graphs_in(node):
            yield from all_nodes(body.node)


def node_name(node: NodeProto) -> str:
    """What to call a node in messages: its name, or what it computes where it has none."""
    return node.name or f"{node.op_type} that computes {result_name(node)!r}"


def wrong_values(node: NodeProto, error: Exception) -> PruneError:
    """What to say of a node whose attributes or constants make no sense or need too much memory."""
    if is_out_of_memory(error):
        return OutOfMemoryError(
            f"{node_name(node)} needs more memory than there is. Check the constants that give shapes."
        )
    return ModelError(
        f"{node_name(node)} cannot be computed, for its values are wrong ({error}). "
        "The file is damaged, or its exporter wrote something else than ONNX asks for."
    )


def result_name(node: NodeProto) -> str:
    """The first result of a node that has a name; "" for a node without any."""
    return next((name for name in node.output if name), "")


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


def constant_tensor(node: NodeProto) -> TensorProto | None:
    """The tensor that a Constant node holds, or None for other nodes and other kinds of constants."""
    if node.op_type != "Constant" or node.domain not in ONNX_DOMAINS or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        tensor: TensorProto = attribute.t
        return tensor
    if attribute.name == "sparse_value":
        return dense_tensor(attribute.sparse_tensor, f"The sparse constant {node.output[0]!r}")
    if attribute.name in ("value_float", "value_int"):
        value = attribute.f if attribute.name == "value_float" else attribute.i
        kind = TensorProto.FLOAT if attribute.name == "value_float" else TensorProto.INT64
        return helper.make_tensor(node.output[0], kind, [], [value])
    if attribute.name in ("value_floats", "value_ints"):
        values = attribute.floats if attribute.name == "value_floats" else attribute.ints
        kind = TensorProto.FLOAT if attribute.name == "value_floats" else TensorProto.INT64
        return helper.make_tensor(node.output[0], kind, [len(values)], list(values))
    return None


def attribute_value(proto: onnx.AttributeProto) -> Any:
    """The value of an attribute as Python data; text as a string."""
    value = helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        return value.decode()
    return list(value) if proto.type in (proto.INTS, proto.FLOATS) else value
