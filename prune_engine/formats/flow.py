"""What flows where in a graph: which values are fixed, which carry the input, which come after a weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from onnx import NodeProto, helper

from prune_engine.formats.aliases import Alias, seen_through, sequence_of, taken_apart, whole
from prune_engine.formats.graph import NONSENSE, Body, Graph, domain_of, wrong_values
from prune_engine.formats.known_numbers import KnownNumbers
from prune_engine.formats.operators.dtypes import FLOATS
from prune_engine.formats.quantised import QUANTISED_TYPES
from prune_engine.formats.quantised_places import integer_places
from prune_engine.formats.scales import Scales, bias_place, is_quantising, moves
from prune_engine.formats.scopes import CONTROL_FLOW
from prune_engine.formats.tensors import to_numpy
from prune_engine.formats.weight_places import weight_places

_GLANCE, _BLOCKS = 64, -1e4
_QUANTISING = ("QuantizeLinear", "DequantizeLinear")


def lets_through_or_blocks(values: np.ndarray) -> bool:
    """Whether a constant is a mask to multiply with (0 and 1, both) or to add (0 and -10,000 or less)."""
    flat = values.reshape(-1)
    for part in (flat[:_GLANCE], flat):  # most constants are ruled out by a few values
        low, high = (float(part.min()), float(part.max())) if part.size else (0.0, 0.0)
        if not bool(((part == low) | (part == high)).all()):
            return False
    return (low, high) == (0.0, 1.0) or (high == 0.0 and low <= _BLOCKS)


class Flow:
    """One walk over the graph and its bodies; those of a loop are walked until nothing more comes to light.

    Attributes:
        aliases: values that are made of constants' own values.
        integers: the same of integers that a scale may turn into floats.
        sequences: pieces that are such values.
        scales: what those integers stand for.
        fixed: values that are computed from constants alone.
        live: values that depend on the graph's inputs.
        learned: values behind at least one weight.
        nodes: every node that can run, bodies included, without the branches that are never taken.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.aliases: dict[str, Alias] = {}
        self.integers: dict[str, Alias] = {}
        self.sequences: dict[str, list[Alias]] = {}
        self.scales = Scales(graph)
        self.numbers = KnownNumbers(graph)
        self.fixed: set[str] = set(graph.constants)
        self.live: set[str] = {value.name for value in graph.inputs}
        self.learned: set[str] = set()
        self.nodes: list[NodeProto] = []
        self._masks: dict[str, bool] = {}

    def run(self) -> None:
        """Fills the attributes."""
        hidden = self.graph.sparse | self.graph.in_functions
        for name, tensor in self.graph.constants.items():
            if tensor.data_type in FLOATS and name not in hidden:
                self.aliases[name] = whole(name, tuple(tensor.dims))
            elif tensor.data_type in QUANTISED_TYPES and name not in hidden:
                self.integers[name] = whole(name, tuple(tensor.dims))
        self._walk(self.graph.nodes)
        self.nodes = list(self._reached(self.graph.nodes))

    def weights_of(self, node: NodeProto) -> Iterator[tuple[int, str, Callable[[int], int]]]:
        """The weight operands of a node that are fixed, while another of its inputs is live."""
        places = [(place.position, place.kind, place.output_axis) for place in integer_places(node)]
        for position, kind, axis in (*weight_places(node, self._rank), *places):
            if position >= len(node.input):
                continue
            name = node.input[position]
            others = [other for i, other in enumerate(node.input) if i != position]
            if (name in self.fixed or name in self.aliases) and any(other in self.live for other in others):
                yield position, kind, axis

    def sources(self, name: str) -> set[str]:
        """The float constants of more than one element that a fixed value is computed from, but for masks."""
        found: set[str] = set()
        seen, waiting = {name}, [name]
        while waiting:
            current = waiting.pop()
            tensor, producer = self.graph.constants.get(current), self.graph.producers.get(current)
            if tensor is not None:
                own = current in self.aliases and math.prod(tensor.dims) > 1
                if own and not self.is_mask(current):
                    found.add(current)
            elif producer is not None and producer.op_type not in ("Shape", "Size"):
                whole = not any(is_quantising(producer, name) for name in _QUANTISING)
                given = producer.input if whole else producer.input[:1]  # scales are not trained
                more = [other for other in given if other and other not in seen]
                seen.update(more)
                waiting += more
        return found

    def is_mask(self, name: str) -> bool:
        """Whether a float constant only lets through or blocks; it is no parameter, wherever it is used."""
        if name not in self._masks:
            tensor = self.graph.constants.get(name)
            self._masks[name] = (
                tensor is not None and tensor.data_type in FLOATS and lets_through_or_blocks(to_numpy(tensor))
            )
        return self._masks[name]

    def taken(self, node: NodeProto) -> Mapping[str, Body]:
        """The bodies of a node that can run: of an If with a known condition, one of them."""
        bodies = self.graph.bodies_of(node)
        if node.op_type == "If" and (condition := self.numbers.of(node.input[0])) is not None:
            branch = "then_branch" if condition.reshape(-1)[:1].any() else "else_branch"
            return {name: body for name, body in bodies.items() if name == branch}
        return bodies

    def _rank(self, name: str) -> int | None:
        alias = self.aliases.get(name)
        return len(alias.shape) if alias else None

    def _declared_rank(self, name: str) -> int | None:
        shape = self.graph.shapes.get(name)
        return None if shape is None else len(shape)

    def _reached(self, nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
        for node in nodes:
            yield node
            for body in self.taken(node).values():
                yield from self._reached(body.nodes)

    def _walk(self, nodes: Iterable[NodeProto]) -> None:
        for node in nodes:
            try:
                self._pass(node)
            except NONSENSE as error:
                raise wrong_values(node, error) from error

    def _pass(self, node: NodeProto) -> None:
        if node.op_type in CONTROL_FLOW and domain_of(node) == "":
            self._enter(node)
            return
        self._follow(node)
        self._quantised(node)
        if any(True for _ in self.weights_of(node)):
            self.learned.update(filter(None, node.output))

    def _follow(self, node: NodeProto) -> None:
        """Spreads what is fixed, live, learned or an alias from a node's inputs to its outputs."""
        inputs = [*filter(None, node.input), *self.graph.captured(node)]
        if node.op_type == "CastLike":
            inputs = inputs[:1]  # of the second only the type counts
        outputs = [name for name in node.output if name]
        if all(name in self.fixed for name in inputs):
            self.fixed.update(outputs)
        elif node.op_type not in ("Shape", "Size"):
            self._mark(outputs, inputs)
        if inputs:
            first = self.aliases.get(inputs[0])
            self.numbers.follow(node, None if first is None else first.shape)
        if inputs and not any(name in self.live for name in inputs):
            given = [self.aliases.get(name) for name in node.input]
            found = seen_through(node, given, self.numbers.of, self._declared_rank, self.is_mask)
            for name, alias in zip(node.output, found, strict=False):
                if name and alias is not None:
                    self.aliases[name] = alias
            self._pieces(node)

    def _pieces(self, node: NodeProto) -> None:
        """Through a list: torch's exporter cuts a weight with SplitToSequence and takes pieces by number."""
        if domain_of(node) != "" or not node.input:
            return
        alias = self.aliases.get(node.input[0])
        if node.op_type == "SplitToSequence" and alias is not None:
            if (pieces := sequence_of(node, alias, self.numbers.of)) is not None:
                self.sequences[node.output[0]] = pieces
        elif node.op_type == "SequenceAt" and node.input[0] in self.sequences:
            pieces, at = self.sequences[node.input[0]], self.numbers.of(node.input[1])
            if at is not None and -len(pieces) <= int(at.reshape(())) < len(pieces):
                self.aliases[node.output[0]] = pieces[int(at.reshape(()))]

    def _quantised(self, node: NodeProto) -> None:
        """Aliases of integers, and where they become floats or the weights of integer arithmetic."""
        given = [self.integers.get(name) for name in node.input]
        if len(given) > 1 and node.op_type == "Gather" and node.input[1] not in self.fixed:
            table = given[0]
            if table is not None and len(table.shape) == 2 and self.scales.table(node, table):
                self.aliases[node.input[0]] = table
        elif any(given) and moves(node):
            found = seen_through(node, given, self.numbers.of, self._declared_rank, self.is_mask)
            self.integers |= {n: a for n, a in zip(node.output, found, strict=False) if n and a is not None}
        if len(given) < 2:
            return
        for name in _QUANTISING:
            if is_quantising(node, name) and node.input[0] in self.aliases:
                self.aliases[node.output[0]] = self.aliases[node.input[0]]  # rounded, trained all the same
        first = given[0] if is_quantising(node, "DequantizeLinear") else None
        if first is not None and self.scales.dequantised(node, first):
            self.aliases[node.output[0]] = first
        at = bias_place(node)
        bias = None if at is None else given[at]
        if at is not None and bias is not None and self.scales.bias(node, bias):
            self.aliases[node.input[at]] = bias
        for place in integer_places(node):
            alias = given[place.position] if place.position < len(given) else None
            if alias is not None and self.scales.operand(node, place, alias):
                self.aliases[node.input[place.position]] = alias

    def _mark(self, names: Iterable[str], because: Iterable[str]) -> None:
        """Makes values live or learned where one of those they come from is."""
        names, because = list(names), list(because)
        if any(name in self.live for name in because):
            self.live.update(filter(None, names))
        if any(name in self.learned for name in because):
            self.learned.update(filter(None, names))

    def _enter(self, node: NodeProto) -> None:
        """An If, Loop or Scan: into its bodies and out again."""
        bodies = self.taken(node)
        if node.op_type == "If":
            for body in bodies.values():
                self._walk(body.nodes)
                for name, result in zip(node.output, body.outputs, strict=False):
                    self._mark([name], [result, node.input[0]])
                    if len(bodies) == 1:
                        self._same(name, result)
            return
        for body in bodies.values():
            first = 2 if node.op_type == "Loop" else int(self.graph.opset(node) < 9)
            given = list(node.input[first:])
            arguments = list(body.inputs[2:] if node.op_type == "Loop" else body.inputs)
            results = list(body.outputs[1:] if node.op_type == "Loop" else body.outputs)
            states = len(given) - self._sequences(node, given, arguments)
            self._repeat(body, given, arguments, results[:states])
            for name, result in zip(node.output, results, strict=False):
                self._mark([name], [result, *node.input[:first]])

    def _repeat(
        self, body: Body, given: Sequence[str], arguments: Sequence[str], returned: Sequence[str]
    ) -> None:
        """Walks a loop's body until what its states carry does not change."""
        for argument, start in zip(arguments, given, strict=False):
            self._mark([argument], [start])
        while True:
            before = len(self.live), len(self.learned)
            self._walk(body.nodes)
            for argument, result in zip(arguments, returned, strict=False):
                self._mark([argument], [result])
            if (len(self.live), len(self.learned)) == before:
                return

    def _sequences(self, node: NodeProto, given: Sequence[str], arguments: Sequence[str]) -> int:
        """The number of a Scan's sequences; a slice of a constant is an alias of it."""
        if node.op_type != "Scan":
            return 0
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute if not a.HasField("g")}
        count = int(attributes.get("num_scan_inputs", 0))
        axes = attributes.get("scan_input_axes") or [0] * count
        batched = self.graph.opset(node) < 9
        for name, argument, axis in zip(given[-count:], arguments[-count:], axes, strict=False):
            alias = self.aliases.get(name)
            if alias is not None and not batched and -len(alias.shape) <= axis < len(alias.shape):
                self.aliases[argument] = taken_apart(alias, axis)
        return count

    def _same(self, name: str, result: str) -> None:
        """One value under two names."""
        if name and result in self.fixed:
            self.fixed.add(name)
        if name and result in self.aliases:
            self.aliases[name] = self.aliases[result]
