"""Activations that exporters write out in elementary operators, put together again for training.

GELU in five nodes costs as many passes over the largest tensors of a transformer, forwards and backwards.
Only the plan is changed: the file keeps its nodes. The definition is that of Hendrycks and Gimpel (2016).
"""

from __future__ import annotations

import math
from dataclasses import replace

from onnx import NodeProto, helper

from prune_engine.formats.graph import Graph, domain_of, node_name
from prune_engine.formats.operators.dtypes import FLOATS
from prune_engine.formats.operators.quantization import MICROSOFT
from prune_engine.formats.tensors import to_numpy

_ROUNDING = 1e-3  # constants are written in float16 too


def fused(graph: Graph) -> Graph:
    """The graph with `x * (1 + erf(x / sqrt(2))) / 2`, in whatever order, as one node; bodies stay."""
    return _Fuser(graph).run()


class _Fuser:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.results = {value.name for value in graph.outputs}
        self.own = {id(node) for node in graph.nodes}

    def run(self) -> Graph:
        gone: set[int] = set()
        made: dict[int, NodeProto] = {}
        for node in self.graph.nodes:
            if node.op_type == "Erf" and domain_of(node) == "" and (found := self._gelu(node)) is not None:
                nodes, x = found
                last = nodes[-1]
                gone.update(id(part) for part in nodes[:-1])
                made[id(last)] = helper.make_node(
                    "Gelu", [x], [last.output[0]], name=node_name(last), domain=MICROSOFT
                )
        if not made:
            return self.graph
        kept = tuple(made.get(id(node), node) for node in self.graph.nodes if id(node) not in gone)
        return replace(self.graph, nodes=kept)

    def _gelu(self, erf: NodeProto) -> tuple[list[NodeProto], str] | None:
        """The nodes of a GELU around its Erf, the last one last, and the name of its input."""
        scaled = self._producer(erf.input[0])
        if scaled is None or not self._only_for(scaled.output[0], erf):
            return None
        x = self._operand(scaled, "Div", math.sqrt(2.0)) or self._operand(scaled, "Mul", math.sqrt(0.5))
        one_more = self._user(erf.output[0])
        if x is None or one_more is None or self._operand(one_more, "Add", 1.0) is None:
            return None
        product = self._user(one_more.output[0])
        if product is None or product.op_type != "Mul" or len(product.input) != 2:
            return None
        nodes = [scaled, erf, one_more, product]
        other = self._other(product, one_more.output[0])
        if other == x:
            half = self._user(product.output[0])
            if half is None or self._halved(half) != product.output[0]:
                return None
            return [*nodes, half], x
        if other is None:
            half = self._user(product.output[0])
            return None if half is None else self._halved_last(nodes, half, product, x)
        halved = self._producer(other)
        if halved is not None and self._halved(halved) == x and self._only_for(other, product):
            return [*nodes[:-1], halved, product], x
        return None

    def _halved_last(
        self, nodes: list[NodeProto], last: NodeProto, product: NodeProto, x: str
    ) -> tuple[list[NodeProto], str] | None:
        """`x * ((1 + erf) * 0.5)`, where the product before was with the half."""
        is_half = self._halved(product) is not None
        fits = is_half and last.op_type == "Mul" and self._other(last, product.output[0]) == x
        return ([*nodes, last], x) if fits else None

    def _halved(self, node: NodeProto) -> str | None:
        return self._operand(node, "Mul", 0.5) or self._operand(node, "Div", 2.0)

    def _operand(self, node: NodeProto, operator: str, number: float) -> str | None:
        """The other input of `operator` where one is the number; it must be the second of Div."""
        if node.op_type != operator or domain_of(node) != "" or len(node.input) != 2:
            return None
        first, second = node.input
        if self._is(second, number):
            return str(first)
        return str(second) if operator != "Div" and self._is(first, number) else None

    def _other(self, node: NodeProto, name: str) -> str | None:
        """The other input of a product; None where that is a constant."""
        others = [other for other in node.input if other != name]
        return str(others[0]) if len(others) == 1 and others[0] not in self.graph.constants else None

    def _is(self, name: str, number: float) -> bool:
        tensor = self.graph.constants.get(name)
        if tensor is None or tensor.data_type not in FLOATS or math.prod(tensor.dims) != 1:
            return False
        return math.isclose(float(to_numpy(tensor).reshape(-1)[0]), number, rel_tol=_ROUNDING)

    def _producer(self, name: str) -> NodeProto | None:
        node = self.graph.producers.get(name)
        return node if node is not None and id(node) in self.own else None

    def _user(self, name: str) -> NodeProto | None:
        """The only node that reads a value, if that is a node of this graph and no result of it."""
        users = self.graph.consumers.get(name, [])
        alone = len(users) == 1 and name not in self.results and id(users[0][0]) in self.own
        return users[0][0] if alone else None

    def _only_for(self, name: str, node: NodeProto) -> bool:
        user = self._user(name)
        return user is not None and user is node
