"""`read_graph`: a model's graph, sorted, with unique names, its local functions unfolded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper

from prune_engine.errors import ModelError
from prune_engine.formats.functions import (
    Call,
    Key,
    call_attributes,
    call_key,
    functions_of,
    with_attributes,
)
from prune_engine.formats.graph import (
    Body,
    Graph,
    Shape,
    constant_tensor,
    node_name,
    opset_versions,
    result_name,
)
from prune_engine.formats.order import computing_order
from prune_engine.formats.scopes import Scope, bodies_of, label, name_scopes, unfolded
from prune_engine.formats.shapes import declared_shapes, declared_types
from prune_engine.formats.sparse import dense_tensor

_MOST_NODES = 2**20


def read_graph(proto: onnx.ModelProto) -> Graph:
    """The graph of a model, sorted.

    Raises:
        ModelError: a value is used but never defined, defined twice, or depends on itself; a function calls
        itself; a domain is imported at two versions.
    """
    return _Reader(proto).run()


class _Reader:
    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        self.functions = functions_of(proto)
        self.scope, self.namer = name_scopes(proto.graph)
        self.constants: dict[str, TensorProto] = {}
        self.bodies: dict[str, dict[str, Body]] = {}
        self.shapes: dict[str, Shape] = {}
        self.types: dict[str, int] = {}
        self.sparse: set[str] = set()
        self.in_functions: set[str] = set()
        self.function_opsets: dict[str, Mapping[str, int]] = {}
        self.calling: list[Key] = []
        self.count = 0

    def run(self) -> Graph:
        opsets = opset_versions(self.proto)
        graph = self.proto.graph
        nodes = self._nodes(self.scope, {}, None)
        return Graph(
            nodes=tuple(nodes),
            constants=self.constants,
            inputs=tuple(value for value in graph.input if value.name not in self.constants),
            outputs=tuple(graph.output),
            opsets=opsets,
            bodies=self.bodies,
            shapes=self.shapes,
            types=self.types,
            sparse=frozenset(self.sparse),
            in_functions=frozenset(self.in_functions),
            function_opsets=self.function_opsets,
        )

    def _nodes(self, scope: Scope, outer: Mapping[str, str], call: Call | None) -> list[NodeProto]:
        """The nodes of one graph under their unique names; `outer` are the values it can see outside."""
        graph, visible = scope.graph, {**outer, **scope.names, "": ""}
        self._initializers(scope, call)
        self.shapes |= {visible[name]: s for name, s in declared_shapes(graph).items() if name in visible}
        self.types |= {visible[name]: t for name, t in declared_types(graph).items() if name in visible}
        known = set(outer).union(
            (value.name for value in graph.input),
            (tensor.name for tensor in graph.initializer),
            (sparse.values.name for sparse in graph.sparse_initializer),
        )
        nodes: list[NodeProto] = []
        for index in computing_order(graph, known):
            node = graph.node[index]
            if call is not None:
                node = with_attributes(node, call.attributes)
            if (tensor := constant_tensor(node)) is not None:
                if not any(node.output[:1]):
                    continue
                self._constant(visible[node.output[0]], tensor, call)
                if any(attribute.HasField("sparse_tensor") for attribute in node.attribute):
                    self.sparse.add(visible[node.output[0]])
            elif call_key(node) in self.functions:
                nodes += self._unfolded(node, visible, call)
            else:
                nodes.append(self._node(node, index, scope, visible, call))
        return nodes

    def _initializers(self, scope: Scope, call: Call | None) -> None:
        stored = [*scope.graph.initializer, *(sparse.values for sparse in scope.graph.sparse_initializer)]
        if not all(tensor.name for tensor in stored):
            raise ModelError("An initializer of the graph has no name. The file is damaged.")
        for tensor in scope.graph.initializer:
            self._constant(scope.names[tensor.name], tensor, call)
        for sparse in scope.graph.sparse_initializer:
            name = scope.names[sparse.values.name]
            self._constant(name, dense_tensor(sparse, f"The sparse initializer {name!r}"), call)
            self.sparse.add(name)

    def _constant(self, name: str, tensor: TensorProto, call: Call | None) -> None:
        self.constants[name] = tensor
        self.shapes[name] = tuple(tensor.dims)
        self.types[name] = int(tensor.data_type)
        if call is not None:
            self.in_functions.add(name)

    def _node(
        self, node: NodeProto, index: int, scope: Scope, visible: Mapping[str, str], call: Call | None
    ) -> NodeProto:
        self.count += 1
        if self.count > _MOST_NODES:
            raise ModelError(f"The graph has more than {_MOST_NODES} nodes when its functions are unfolded.")
        inputs, outputs = [visible[name] for name in node.input], [visible[name] for name in node.output]
        bodies = {
            attribute.name: self._body(
                node, attribute, scope.bodies.get((index, attribute.name)), visible, call
            )
            for attribute in bodies_of(node)
        }
        if call is not None or inputs != list(node.input) or outputs != list(node.output):
            own = NodeProto(op_type=node.op_type, domain=node.domain, input=inputs, output=outputs)
            own.name = f"{call.name}/{label(node)}" if call is not None else node.name
            own.attribute.extend(attribute for attribute in node.attribute if not attribute.HasField("g"))
            node = own
        if bodies:
            self.bodies[result_name(node)] = bodies
        if call is not None:
            self.function_opsets[result_name(node)] = call.opsets
        return node

    def _body(
        self,
        node: NodeProto,
        attribute: AttributeProto,
        scope: Scope | None,
        visible: Mapping[str, str],
        call: Call | None,
    ) -> Body:
        if scope is None:  # the body came with the call of a function
            scope = unfolded(attribute.g, f"{label(node)}/{attribute.name}", self.namer)
        before = set(self.constants)
        nodes = self._nodes(scope, visible, call)
        graph = scope.graph
        seen = {**visible, **scope.names}
        stored = {tensor.name for tensor in graph.initializer}
        if not all(value.name for value in (*graph.input, *graph.output)):
            raise ModelError(
                f"{node_name(node)}: its {attribute.name} has values without names. The file is damaged."
            )
        inputs = tuple(scope.names[value.name] for value in graph.input if value.name not in stored)
        outputs = tuple(seen[value.name] for value in graph.output)
        made = {*inputs, *(name for inner in nodes for name in inner.output)} | (set(self.constants) - before)
        read = {*outputs, *(name for inner in nodes for name in inner.input)}
        for inner in nodes:
            for body in self.bodies.get(result_name(inner), {}).values():
                read |= body.captured
        return Body(inputs, tuple(nodes), outputs, tuple(graph.output), frozenset(read - made - {""}))

    def _unfolded(self, node: NodeProto, visible: Mapping[str, str], call: Call | None) -> list[NodeProto]:
        """The nodes of a local function at a place where it is called."""
        key = call_key(node)
        function = self.functions[key]
        if key in self.calling:
            raise ModelError(f"The local function {function.name!r} calls itself. The file is damaged.")
        name = label(node) if call is None else f"{call.name}/{label(node)}"
        graph = GraphProto(node=function.node, value_info=function.value_info)
        graph.output.extend(helper.make_value_info(result, onnx.TypeProto()) for result in function.output)
        scope = unfolded(graph, name, self.namer)
        given = [visible[value] for value in node.input] + [""] * (len(function.input) - len(node.input))
        inputs = dict(zip(function.input, given, strict=False))
        wanted = {
            local: visible[result]
            for local, result in zip(function.output, node.output, strict=False)
            if result
        }
        names = {**scope.names, **{local: name for local, name in wanted.items() if local in scope.names}}
        opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in function.opset_import}
        self.calling.append(key)
        nodes = self._nodes(
            replace(scope, names=names), inputs, Call(key, name, call_attributes(function, node), opsets)
        )
        self.calling.pop()
        for local, result in wanted.items():
            if local not in names:  # the function hands an input on
                nodes.append(helper.make_node("Identity", [inputs[local]], [result], name=node_name(node)))
        return nodes
