"""What each float constant of a graph is: a prunable weight, another trained parameter, a running statistic,
or a plain constant.

ONNX does not tell parameters from masks, tables and scalars, so the role comes from the place: the weight
operand of a convolution or a matrix product is prunable, behind any Transpose, Identity, Cast or Reshape.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from onnx import NodeProto, TensorProto, helper

from prune_engine.formats.graph import Graph, node_name
from prune_engine.formats.operators.dtypes import FLOATS
from prune_engine.formats.tensors import to_numpy
from prune_engine.formats.weight_places import vector_places, weight_places

_ALIASES = ("Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten")


@dataclass(frozen=True)
class PrunableWeight:
    """An initializer that is the weight operand of at least one node.

    Args:
        name: of the initializer (of the output, for the tensor of a Constant node).
        kind: "Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN" or "Embedding".
        output_axis: axis of the initializer that counts output channels, neurons, or rows of an embedding.
        nodes: names of the nodes that use it as their weight.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    output_axis: int
    nodes: tuple[str, ...]


@dataclass
class Roles:
    """The roles of a graph's float constants; what is in none of these is a plain constant."""

    prunable: dict[str, PrunableWeight] = field(default_factory=dict)
    trained: set[str] = field(default_factory=set)
    statistics: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Alias:
    """A constant seen through view-like nodes; `axes[i]` is the constant's own axis behind axis i."""

    name: str
    shape: tuple[int, ...]
    axes: tuple[int | None, ...]


def find_roles(graph: Graph) -> Roles:
    """Sorts the float constants of `graph` by the place where they are used."""
    return _Finder(graph).run()


class _Finder:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.roles = Roles()
        self.aliases: dict[str, _Alias] = {}
        self.fixed: set[str] = set()  # computed from constants alone
        self.live: set[str] = {value.name for value in graph.inputs}  # carries the input's values
        self.learned: set[str] = set()  # behind at least one weight

    def run(self) -> Roles:
        statistics: Counter[str] = Counter()
        for name, tensor in self.graph.constants.items():
            self.fixed.add(name)
            shape = tuple(tensor.dims)
            if tensor.data_type in FLOATS:
                self.aliases[name] = _Alias(name, shape, tuple(range(len(shape))))
        for node in self.graph.nodes:
            self._follow(node)
            self._weights(node)
            self._arithmetic(node)
            if node.op_type == "BatchNormalization":
                statistics.update(self.aliases[name].name for name in node.input[3:5] if name in self.aliases)
        # What two layers share as statistics, or as statistics and as a scale (the legacy exporter merges
        # equal initializers), cannot follow both: it stays a constant.
        self.roles.trained -= set(statistics) - set(self.roles.prunable)
        single = {name for name, uses in statistics.items() if uses == 1 and self._uses(name) == 1}
        self.roles.statistics = single - self.roles.trained
        return self.roles

    def _uses(self, name: str) -> int:
        return len(self.graph.consumers.get(name, ())) + sum(
            value.name == name for value in self.graph.outputs
        )

    def _follow(self, node: NodeProto) -> None:
        """Spreads what is fixed, live, learned or an alias from a node's inputs to its outputs."""
        inputs = [*filter(None, node.input), *self.graph.captured(node)]
        outputs = [name for name in node.output if name]
        if all(name in self.fixed for name in inputs):
            self.fixed.update(outputs)
            if node.op_type in _ALIASES and inputs and inputs[0] in self.aliases:
                alias = self._through(node, self.aliases[inputs[0]])
                if alias is not None:
                    self.aliases[outputs[0]] = alias
        elif node.op_type not in ("Shape", "Size"):
            if any(name in self.live for name in inputs):
                self.live.update(outputs)
            if any(name in self.learned for name in inputs):
                self.learned.update(outputs)

    def _through(self, node: NodeProto, alias: _Alias) -> _Alias | None:
        """The alias behind one more view-like node."""
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        shape, axes = alias.shape, alias.axes
        if node.op_type == "Identity":
            return alias
        if node.op_type == "Cast":
            return alias if attributes["to"] in FLOATS else None
        if node.op_type == "Transpose":
            order = attributes.get("perm") or list(reversed(range(len(shape))))
            return _Alias(alias.name, tuple(shape[i] for i in order), tuple(axes[i] for i in order))
        target = self._target(node, shape, attributes)
        if target is None:
            return None
        places = {(math.prod(shape[:i]), size): axes[i] for i, size in enumerate(shape)}
        found = tuple(places.get((math.prod(target[:i]), size)) for i, size in enumerate(target))
        return _Alias(alias.name, target, found)

    def _target(
        self, node: NodeProto, shape: tuple[int, ...], attributes: dict[str, object]
    ) -> tuple[int, ...] | None:
        """The shape behind a Reshape, Flatten, Squeeze or Unsqueeze of something with a known shape."""
        if node.op_type == "Flatten":
            cut = int(str(attributes.get("axis", 1)))
            return math.prod(shape[:cut]), math.prod(shape[cut:])
        given = attributes.get("axes")
        if len(node.input) > 1:
            tensor = self.graph.constants.get(node.input[1])
            if tensor is None:
                return None
            given = to_numpy(tensor).reshape(-1).tolist()
        numbers = [int(v) for v in given] if isinstance(given, list) else None
        if node.op_type == "Reshape":
            if numbers is None:
                return None
            sizes = [shape[i] if size == 0 and i < len(shape) else size for i, size in enumerate(numbers)]
            known = math.prod(size for size in sizes if size != -1)
            return tuple(math.prod(shape) // max(known, 1) if size == -1 else size for size in sizes)
        if node.op_type == "Squeeze":
            gone = (
                {i for i, s in enumerate(shape) if s == 1}
                if numbers is None
                else {i % len(shape) for i in numbers}
            )
            return tuple(size for i, size in enumerate(shape) if i not in gone)
        sizes = list(shape)
        for axis in sorted(a % (len(shape) + len(numbers or [])) for a in numbers or []):
            sizes.insert(axis, 1)
        return tuple(sizes)

    def _weights(self, node: NodeProto) -> None:
        """Notes the weights, biases and scales that a node takes at their proper places."""
        for position, kind, axis in weight_places(node, self._rank):
            name = node.input[position]
            others = [other for i, other in enumerate(node.input) if i != position]
            if name not in self.fixed or not any(other in self.live for other in others):
                continue
            self.learned.update(node.output)
            alias = self.aliases.get(name)
            if alias is None:
                self.roles.trained |= self._sources(name)
            elif 0 not in alias.shape:
                self._prunable(node, kind, alias, axis(len(alias.shape)))
        for position in vector_places(node):
            if position < len(node.input) and node.input[position] in self.fixed:
                alias = self.aliases.get(node.input[position])
                self.roles.trained |= {alias.name} if alias else self._sources(node.input[position])

    def _rank(self, name: str) -> int | None:
        alias = self.aliases.get(name)
        return len(alias.shape) if alias else None

    def _prunable(self, node: NodeProto, kind: str, alias: _Alias, axis: int) -> None:
        """Adds a node to the weight behind `alias`; a constant that several nodes share has one entry."""
        behind = alias.axes[axis] if alias.axes else None
        known = self.roles.prunable.get(alias.name)
        self.roles.trained.add(alias.name)
        self.roles.prunable[alias.name] = PrunableWeight(
            name=alias.name,
            kind=known.kind if known else kind,
            shape=tuple(self.graph.constants[alias.name].dims),
            output_axis=known.output_axis if known else (0 if behind is None else behind),
            nodes=(*(known.nodes if known else ()), node_name(node)),
        )

    def _sources(self, name: str) -> set[str]:
        """The float constants of more than one element that a fixed value is computed from."""
        tensor = self.graph.constants.get(name)
        if tensor is not None:
            return {name} if tensor.data_type in FLOATS and math.prod(tensor.dims) > 1 else set()
        producer = self.graph.producers.get(name)
        if producer is None or producer.op_type in ("Shape", "Size"):
            return set()
        return set().union(*(self._sources(other) for other in producer.input if other))

    def _arithmetic(self, node: NodeProto) -> None:
        """Biases and scales outside of their layer: one value a channel, next to something learned.

        Position tables, masks and the normalisation of the input stay constants.
        """
        if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.input) != 2:
            return
        for name, other in (node.input, tuple(reversed(node.input))):
            alias = self.aliases.get(name)
            if alias is None or other not in self.learned:
                continue
            wide = [size for size in alias.shape if size != 1]
            if len(wide) == 1 or (not wide and alias.shape and self._is_bias(node, other)):
                self.roles.trained.add(alias.name)

    def _is_bias(self, node: NodeProto, other: str) -> bool:
        producer = self.graph.producers.get(other)
        return (
            node.op_type == "Add"
            and producer is not None
            and producer.op_type in ("MatMul", "Conv", "Einsum")
        )


def is_float(tensor: TensorProto) -> bool:
    """Whether a tensor holds floating-point values that Prunery trains."""
    return tensor.data_type in FLOATS
