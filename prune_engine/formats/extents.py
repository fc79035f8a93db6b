"""How large the values of a graph become at least, told from its shapes before anything is computed.

A file of a hundred bytes can ask for terabytes. Here the shapes of all values are followed for a batch of one
row, as far as constants and declared sizes tell them; a size that is not known counts as 1 and an operator
that is not known makes values of unknown shape, so that what is found is never more than what would be asked
for. What cannot be told here ends at the memory and time limits of the process.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from onnx import NodeProto, TensorProto

from prune_engine.errors import ModelTooLargeError
from prune_engine.formats.extent_products import RULES
from prune_engine.formats.extent_rules import Asked, Sizes
from prune_engine.formats.graph import NONSENSE, Body, Graph, domain_of, node_name
from prune_engine.formats.known_numbers import KnownNumbers
from prune_engine.formats.operators.dtypes import FLOATS
from prune_engine.formats.tensors import element_bits, to_numpy
from prune_engine.memory import memory_limit

MOST_STEPS = 20_000_000
"""Nodes that the loops of a graph may run for one row."""

_ALL_TOGETHER = 4  # times the memory: what is made may be given back before the next
_ENDLESS = 2**62
_FEW = 64
_FLOAT = TensorProto.FLOAT
_BOOLEANS = frozenset((
    "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or", "Xor", "Not", "IsNaN",
    "IsInf",
))  # fmt: skip
# The input that gives the type, where that is not the first; one that is not there stands for float.
_TYPED_BY = {
    "OneHot": 2, "Where": 1, "QuantizeLinear": 2, "DequantizeLinear": 1, "HannWindow": 1, "HammingWindow": 1,
    "BlackmanWindow": 1, "MelWeightMatrix": 5,
}  # fmt: skip
_VIEWS = frozenset((
    "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Identity", "Slice", "Split", "Shape", "Size",
    "If", "Loop", "Scan", "Dropout",
))  # fmt: skip


def check_extents(graph: Graph, memory: int | None = None) -> None:
    """Refuse a graph whose values cannot fit, or whose loops cannot end.

    Args:
        memory: bytes that there are; None: what this process may use.

    Raises:
        ModelTooLargeError: names the node and what it asks for.
    """
    _Walk(graph, memory_limit() if memory is None else memory).run()


def known_extents(graph: Graph) -> dict[str, Sizes]:
    """The shapes that follow from the graph for a single row, None where a size is not known."""
    walk = _Walk(graph, _ENDLESS)
    walk.run()
    return {name: shape for name, shape in walk.shapes.items() if shape is not None}


class _Walk:
    def __init__(self, graph: Graph, memory: int) -> None:
        self.graph = graph
        self.memory = memory
        self.numbers = KnownNumbers(graph)
        self.shapes: dict[str, Sizes | None] = {
            name: tuple(tensor.dims) for name, tensor in graph.constants.items()
        }
        self.types: dict[str, int] = {name: int(t.data_type) for name, t in graph.constants.items()}
        self.total = 0

    def run(self) -> None:
        for value in self.graph.inputs:
            shape = self.graph.shapes.get(value.name)
            if shape is None:
                continue
            self.types[value.name] = self.graph.types.get(value.name, TensorProto.FLOAT)
            self._note(
                value.name, tuple(n if n and n > 0 else None for n in shape), f"The input {value.name!r}"
            )
        steps = self._nodes(self.graph.nodes, 1)
        if self.total > _ALL_TOGETHER * self.memory:
            raise ModelTooLargeError(
                f"The values of the graph have {self.total:,} bytes together for a single row, and there are "
                f"{self.memory:,} bytes of memory. Check the constants that give shapes."
            )
        if steps > MOST_STEPS:
            raise ModelTooLargeError(
                f"The graph's loops run {steps:,} nodes for a single row; at most {MOST_STEPS:,} are run."
            )

    def _nodes(self, nodes: Iterable[NodeProto], times: int) -> int:
        """Follows nodes that run `times` times; how many nodes that is, those of loops included."""
        steps = 0
        for node in nodes:
            steps += times
            bodies = self.graph.bodies_of(node)
            if bodies:
                steps += self._control_flow(node, bodies, times)
                continue
            found = self._results(node)
            for name, shape in zip(node.output, found, strict=False):
                self._note(name, shape, node_name(node), counted=node.op_type not in _VIEWS)
            first = self.shapes.get(node.input[0]) if node.input else None
            whole = None if first is None or None in first else tuple(n for n in first if n is not None)
            with contextlib.suppress(*NONSENSE):  # the importer says what is wrong with the node
                self.numbers.follow(node, whole)
        return steps

    def _results(self, node: NodeProto) -> Sequence[Sizes | None]:
        rule = RULES.get(node.op_type) if domain_of(node) in ("", "com.microsoft") else None
        if rule is None:
            return ()
        self._type(node)
        try:
            return rule(Asked(node, self.shapes, self._values, self.graph.opset(node)))
        except NONSENSE:
            return ()  # the importer says what is wrong with the node

    def _values(self, name: str) -> np.ndarray | None:
        """The numbers that a value is known to be; floats where they are constants, as scales are."""
        tensor = self.graph.constants.get(name)
        if tensor is not None and tensor.data_type in FLOATS and math.prod(tensor.dims) <= _FEW:
            return to_numpy(tensor)
        return self.numbers.of(name)

    def _type(self, node: NodeProto) -> None:
        """The element type of the results, for what it has of bytes; where it is not told, a small one."""
        said = next((a.i for a in node.attribute if a.name in ("to", "dtype", "output_datatype")), 0)
        if said:
            kind = int(said)
        elif node.op_type in _BOOLEANS:
            kind = TensorProto.BOOL
        elif node.op_type == "ConstantOfShape":
            kind = next((a.t.data_type for a in node.attribute if a.name == "value"), TensorProto.FLOAT)
        else:
            place = _TYPED_BY.get(node.op_type, 0)
            kind = self.types.get(node.input[place], TensorProto.UINT8) if len(node.input) > place else _FLOAT
        self.types.update(dict.fromkeys(node.output, kind))

    def _note(self, name: str, shape: Sizes | None, where: str, *, counted: bool = True) -> None:
        if not name or shape is None:
            return
        self.shapes[name] = shape
        bits = element_bits(self.types.get(name, TensorProto.UINT8)) or 8
        size = math.prod(1 if n is None else n for n in shape) * bits // 8
        if size > self.memory // 2:
            said = ["?" if n is None else n for n in shape]
            raise ModelTooLargeError(
                f"{where} asks for a tensor of shape [{', '.join(map(str, said))}], at least {size:,} bytes "
                f"for a single row; there are {self.memory:,} bytes of memory. Check the constants that give "
                "the shape."
            )
        self.total += size if counted else 0

    def _control_flow(self, node: NodeProto, bodies: Mapping[str, Body], times: int) -> int:
        if "body" in bodies and domain_of(node) == "":
            if node.op_type == "Loop":
                return self._loop(node, bodies["body"], times)
            if node.op_type == "Scan":
                return self._scan(node, bodies["body"], times)
        return max(self._nodes(body.nodes, times) for body in bodies.values())  # one branch of an If runs

    def _loop(self, node: NodeProto, body: Body, times: int) -> int:
        limit = self.numbers.of(node.input[0]) if node.input and node.input[0] else None
        trips = _ENDLESS if not any(node.input[:1]) else None
        if limit is not None and limit.size == 1:
            trips = max(int(limit.reshape(-1)[0]), 0)
        condition = self.numbers.of(node.input[1]) if len(node.input) > 1 and node.input[1] else None
        begins = len(node.input) < 2 or not node.input[1] or (condition is not None and bool(condition.all()))
        if trips is None or not begins or not _goes_on(body, self.numbers):
            trips = 1  # how often is found out while it runs
        if trips > MOST_STEPS:
            raise ModelTooLargeError(
                f"{node_name(node)} runs its body {trips:,} times, for its condition never changes; at most "
                f"{MOST_STEPS:,} steps are run."
            )
        steps = self._nodes(body.nodes, times * trips)
        carried = len(body.outputs) - 1 - max(len(node.output) - (len(node.input) - 2), 0)
        for name, inner in zip(
            node.output[max(carried, 0) :], body.outputs[1 + max(carried, 0) :], strict=False
        ):
            shape = self.shapes.get(inner)
            self._note(name, None if shape is None else (trips, *shape), node_name(node))
        return steps

    def _scan(self, node: NodeProto, body: Body, times: int) -> int:
        given = next((a.i for a in node.attribute if a.name == "num_scan_inputs"), 1)
        scanned = [self.shapes.get(name) for name in node.input[len(node.input) - given :]]
        # Scanned along other axes, or backwards: rare, and then a step is counted once.
        plain = not any(a.name.endswith(("_axes", "_directions")) for a in node.attribute)
        lengths = [shape[0] or 1 for shape in scanned if shape and plain]
        trips = max(lengths, default=1)
        for name, shape in zip(body.inputs[len(body.inputs) - given :], scanned, strict=False):
            if shape and plain:
                self.shapes[name] = shape[1:]
        steps = self._nodes(body.nodes, times * trips)
        states = len(node.input) - given
        for name, inner in zip(node.output[states:], body.outputs[states:], strict=False):
            shape = self.shapes.get(inner)
            self._note(name, None if shape is None else (trips, *shape), node_name(node))
        return steps


def _goes_on(body: Body, numbers: KnownNumbers) -> bool:
    """Whether nothing in a loop's body changes the condition that it goes on by."""
    origin = {name: node for node in body.nodes for name in node.output}
    name = body.outputs[0] if body.outputs else ""
    while name in origin and origin[name].op_type in ("Identity", "Cast"):
        name = origin[name].input[0]
    if len(body.inputs) > 1 and name == body.inputs[1]:
        return True
    known = numbers.of(name)
    return known is not None and bool(known.all())
