"""Why a float constant is not prunable, in a few words for each."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from onnx import NodeProto

from prune_engine.formats.flow import Flow
from prune_engine.formats.graph import Graph
from prune_engine.formats.scales import is_quantising
from prune_engine.formats.weight_places import vector_places
from prune_engine.formats.weights import Roles, is_float

_NORMS = ("Normalization", "Norm")
_QUANTISING = ("QuantizeLinear", "DequantizeLinear")
_INTEGER = ("QGemm", "MatMulNBits")


def not_prunable(graph: Graph, roles: Roles) -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape and reason of every constant that no gate gets, in the file's order.

    Integers are listed as far as a scale makes floats of them.
    """
    reasons = _Reasons(graph, roles)
    return [
        (name, tuple(tensor.dims), reasons.of(name))
        for name, tensor in graph.constants.items()
        if (is_float(tensor) or reasons.stands_for_floats(name)) and name not in roles.prunable
    ]


class _Reasons:
    def __init__(self, graph: Graph, roles: Roles) -> None:
        self.graph, self.roles = graph, roles
        flow = Flow(graph)
        flow.run()
        self.refused = roles.refused
        self.reached = {id(node) for node in flow.nodes}
        self.nodes = flow.nodes  # keeps them alive, and with them their ids
        self.seen: dict[str, set[str]] = defaultdict(set)  # constant -> the values that show it
        for value, alias in flow.aliases.items():
            for source in alias.sources:
                self.seen[source.name].add(value)

    def stands_for_floats(self, name: str) -> bool:
        """Whether a constant of integers is trained, could not be, or is packed."""
        return name in self.roles.quantised or name in self.refused or self._is_packed(name)

    def _is_packed(self, name: str) -> bool:
        users = self.graph.consumers.get(name, ())
        return any(node.op_type == "MatMulNBits" and position == 1 for node, position in users)

    def of(self, name: str) -> str:
        tensor = self.graph.constants[name]
        if name in self.refused:
            return f"quantised, and {self.refused[name]}"
        if self._is_packed(name):
            return "packed weight of MatMulNBits"
        if name in self.graph.sparse:
            return "stored sparse"
        if name in self.graph.in_functions:
            return "inside a local function"
        if name in self.roles.statistics:
            return "running statistic"
        if math.prod(tensor.dims) == 0:
            return "empty"
        readers = list(self._readers(name))
        if not readers:
            return "nothing reads it"
        if all(id(node) not in self.reached for node, _ in readers):
            return "in a branch that is never taken"
        found = [self._place(node, position) for node, position in readers]
        named = next((place for place in found if place), None)
        if named is not None:
            return named
        if math.prod(tensor.dims) == 1:
            return "scalar"
        return self._use(name, [node for node, _ in readers])

    def _readers(self, name: str) -> Iterator[tuple[NodeProto, int]]:
        """The nodes that read a constant, behind those that only move its values."""
        for value in (name, *self.seen.get(name, ())):
            for node, position in self.graph.consumers.get(value, ()):
                if not any(result in self.seen.get(name, ()) for result in node.output):
                    yield node, position

    def _place(self, node: NodeProto, position: int) -> str | None:
        """What a node takes at this position, where that is not arithmetic."""
        if node.op_type == "BatchNormalization" and position in (3, 4):
            return "running statistic"
        if position in vector_places(node):
            if node.op_type.endswith(_NORMS):
                return "normalisation scale" if position == 1 else "normalisation shift"
            return "slope" if node.op_type == "PRelu" else "bias"
        if any(is_quantising(node, name) for name in _QUANTISING) and position == 1:
            return "quantisation scale"
        if node.op_type in _INTEGER or node.op_type.startswith("QLinear"):
            return "quantisation scale"
        return None

    def _use(self, name: str, readers: list[NodeProto]) -> str:
        kinds = {node.op_type for node in readers}
        trained = name in self.roles.trained
        if kinds <= {"Add", "Sub"}:
            return "bias" if trained else "only added: a position table or a mask"
        if kinds <= {"Mul", "Div"}:
            return "scale" if trained else "only multiplied: a scale or a mask"
        if trained:
            return "a weight is computed from it"
        return f"feeds no weight operand ({', '.join(sorted(kinds))})"
