"""ONNX graph -> `OnnxModule`: constants are folded, every other node becomes one step of a plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import torch
from onnx import NodeProto, TensorProto, helper
from torch import Tensor

from prune_engine.errors import ModelError, NoPrunableWeightsError, UnsupportedOperatorError
from prune_engine.formats.batch import free_batch
from prune_engine.formats.branches import Branch, choice
from prune_engine.formats.graph import ONNX_DOMAINS, Graph, all_nodes, constant_tensor, node_name, read_graph
from prune_engine.formats.module import OnnxModule
from prune_engine.formats.operators import Kernel, Node, Operator, find
from prune_engine.formats.operators.dtypes import compute_dtype
from prune_engine.formats.operators.shape_arithmetic import NUMBER, Host, build_host
from prune_engine.formats.plan import DEVICE, FIRST_FREE, NOTHING, TRAINING, Plan, Step
from prune_engine.formats.shapes import declared_shapes
from prune_engine.formats.tensors import to_numpy
from prune_engine.formats.weights import Roles, find_roles

_NONSENSE = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
)
_LONGEST_LIST = 64  # longer integer constants are tables, not shapes


def import_onnx(proto: onnx.ModelProto) -> OnnxModule:
    """A trainable module that computes what the graph computes.

    Raises:
        UnsupportedOperatorError: with every operator that the table lacks, not only the first.
        NoPrunableWeightsError: no float constant is a weight operand.
        ModelError: the graph is damaged.
    """
    try:
        return _import(proto)
    except UnicodeDecodeError as error:
        raise ModelError(
            "A name in the ONNX graph is not text. The file is damaged; send it again."
        ) from error


def _import(proto: onnx.ModelProto) -> OnnxModule:
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    graph = read_graph(proto)
    _refuse_unsupported(graph)
    roles = find_roles(graph)
    if not roles.prunable:
        raise NoPrunableWeightsError(
            "The graph has no float weight that could be pruned: no convolution, matrix product or embedding "
            "takes a float initializer. If this is a quantised model, send the float one it was made from."
        )
    return _module(proto, graph, roles)


def compile_graph(proto: onnx.ModelProto) -> OnnxModule:
    """A module without parameters: every initializer stays a constant. Raises what `import_onnx` raises."""
    graph = read_graph(proto)
    _refuse_unsupported(graph)
    return _module(proto, graph, Roles())


def _module(proto: onnx.ModelProto, graph: Graph, roles: Roles) -> OnnxModule:
    shapes = declared_shapes(proto.graph)
    ranks = {name: len(shape) for name, shape in shapes.items()}
    plan = _Compiler(graph, roles, ranks).run()
    plan = free_batch(plan, [shapes.get(value.name, ()) for value in graph.inputs])
    return OnnxModule(
        plan,
        tuple(roles.prunable.values()),
        tuple(value.name for value in graph.inputs),
        tuple(value.name for value in graph.outputs),
        {name: to_numpy(graph.constants[name]) for name in roles.statistics if name in plan.buffers},
    )


def _domain(node: NodeProto) -> str:
    return "" if node.domain in ONNX_DOMAINS else str(node.domain)


def _refuse_unsupported(graph: Graph) -> None:
    missing: Counter[str] = Counter()
    example: dict[str, str] = {}
    for node in all_nodes(graph.nodes):
        domain = _domain(node)
        opset = graph.opsets.get(domain, 1)
        if domain == "" and (node.op_type == "If" or constant_tensor(node) is not None):
            continue
        if find(domain, node.op_type, opset) is None:
            label = f"{node.op_type} (domain {domain or 'ai.onnx'}, opset {opset})"
            missing[label] += 1
            example.setdefault(label, node_name(node))
    if missing:
        listed = "; ".join(
            f"{label} at {example[label]}" + (f" and {count - 1} more" if count > 1 else "")
            for label, count in missing.items()
        )
        raise UnsupportedOperatorError(
            f"Prunery cannot train these operators: {listed}. "
            "Export the model without them, in opset 9 to 21 and with the standard ONNX operators."
        )


@dataclass(frozen=True)
class _Value:
    """A value during import: known (`constant`), or in `slot` as a tensor or, with `form`, as numbers."""

    slot: int = NOTHING
    constant: np.ndarray | None = None
    form: Host | None = None

    @property
    def host_form(self) -> Host | None:
        """The form that the value has or could have as Python numbers."""
        if self.constant is None:
            return self.form
        if self.constant.ndim == 0:
            return NUMBER
        if self.constant.ndim == 1 and self.constant.size <= _LONGEST_LIST:
            return Host(self.constant.size)
        return None


class _Compiler:
    """Walks the nodes once and collects the plan."""

    def __init__(self, graph: Graph, roles: Roles, ranks: dict[str, int]) -> None:
        self.graph, self.roles, self.ranks = graph, roles, ranks
        self.template: list[Any] = [None] * FIRST_FREE
        self.steps: list[Step] = []
        self.tensors: list[tuple[int, str]] = []
        self.parameters: dict[str, np.ndarray] = {}
        self.buffers: dict[str, Tensor] = {}
        self.values: dict[str, _Value] = {"": _Value()}
        self.as_tensor: dict[str, int] = {}
        self.as_host: dict[str, int] = {}

    def run(self) -> Plan:
        inputs = []
        for value in self.graph.inputs:
            slot = self._new_slot()
            self.values[value.name] = _Value(slot)
            inputs.append((slot, compute_dtype(value.type.tensor_type.elem_type)))
        for name, tensor in self.graph.constants.items():
            self._constant(name, tensor)
        for node in self.graph.nodes:
            if node.op_type == "Constant" and node.output[0] in self.graph.constants:
                continue
            try:
                self._node(node)
            except _NONSENSE as error:
                raise ModelError(
                    f"{node_name(node)} cannot be computed, for its values are wrong ({error}). "
                    "The file is damaged, or its exporter wrote something else than ONNX asks for."
                ) from error
        outputs = tuple(self._tensor_slot(value.name) for value in self.graph.outputs)
        return Plan(
            _with_lifetimes(self.steps, outputs),
            tuple(self.template),
            tuple(inputs),
            outputs,
            tuple(self.tensors),
            self.parameters,
            self.buffers,
        )

    def _constant(self, name: str, tensor: TensorProto) -> None:
        values = to_numpy(tensor, f"The initializer {name!r}")
        if name not in self.roles.trained and name not in self.roles.statistics:
            self.values[name] = _Value(constant=values)
            return
        slot = self._new_slot()
        self.values[name] = _Value(slot)
        self.tensors.append((slot, name))
        if name in self.roles.trained:
            self.parameters[name] = values
        else:
            self.buffers[name] = torch.from_numpy(values.astype(np.float32))

    def _new_slot(self, value: Any = None) -> int:
        self.template.append(value)
        return len(self.template) - 1

    def _step(
        self, kernel: Kernel, inputs: Sequence[int], output: int | tuple[int, ...], node: Node | None = None
    ) -> None:
        operator, name = ("to tensor" if node is None else node.operator), ("" if node is None else node.name)
        self.steps.append(Step(kernel, tuple(inputs), output, (), operator, name))

    def _tensor_slot(self, name: str) -> int:
        """The slot where a value lies as a tensor."""
        value = self.values[name]
        if not name or (value.constant is None and value.form is None):
            return value.slot
        if name not in self.as_tensor:
            slot = self._new_slot()
            if value.constant is not None:
                self.buffers[name] = to_torch(value.constant)
                self.tensors.append((slot, name))
            else:
                self._step(_numbers_to_tensor, (DEVICE, value.slot), slot)
            self.as_tensor[name] = slot
        return self.as_tensor[name]

    def _host_slot(self, name: str) -> int:
        """The slot where a value lies as Python numbers."""
        value = self.values[name]
        if not name or value.form is not None:
            return value.slot
        if name not in self.as_host:
            if value.constant is not None:
                self.as_host[name] = self._new_slot(value.constant.tolist())
            else:
                self.as_host[name] = slot = self._new_slot()
                self._step(Tensor.tolist, (value.slot,), slot)
        return self.as_host[name]

    def _if(self, proto: NodeProto) -> None:
        """Takes the branch at once where the condition is known; otherwise both are compiled."""
        bodies = {attribute.name: attribute.g for attribute in proto.attribute}
        condition = self.values[proto.input[0]].constant
        if condition is not None:
            body = bodies["then_branch" if condition.reshape(-1)[0] else "else_branch"]
            self._body(body)
            for name, result in zip(proto.output, body.output, strict=True):
                self.values[name] = self.values[result.name]
            return
        asked = self._host_slot(proto.input[0])
        then, otherwise = self._branch(bodies["then_branch"]), self._branch(bodies["else_branch"])
        captured = tuple(sorted(then.needs(self.template) | otherwise.needs(self.template)))
        results = tuple(self._new_slot() for _ in proto.output)
        self.values.update({name: _Value(slot) for name, slot in zip(proto.output, results, strict=True)})
        kernel = choice(then, otherwise, self.template, captured)
        output = results[0] if len(results) == 1 else results
        self.steps.append(Step(kernel, (asked, *captured), output, (), "If", node_name(proto)))

    def _branch(self, body: onnx.GraphProto) -> Branch:
        outer = self.steps, self.as_tensor, self.as_host
        self.steps, self.as_tensor, self.as_host = [], dict(self.as_tensor), dict(self.as_host)
        self._body(body)
        outputs = tuple(self._tensor_slot(value.name) for value in body.output)
        branch = Branch(tuple(self.steps), outputs)
        self.steps, self.as_tensor, self.as_host = outer
        return branch

    def _body(self, body: onnx.GraphProto) -> None:
        """The nodes of a branch; its own constants are not trained."""
        for tensor in body.initializer:
            self.values[tensor.name] = _Value(constant=to_numpy(tensor, f"The initializer {tensor.name!r}"))
        for node in body.node:
            tensor = constant_tensor(node)
            if tensor is None:
                self._node(node)
            else:
                self.values[node.output[0]] = _Value(constant=to_numpy(tensor))

    def _node(self, proto: NodeProto) -> None:
        domain = _domain(proto)
        if proto.op_type == "If" and domain == "":
            self._if(proto)
            return
        constants = {
            i: constant
            for i, name in enumerate(proto.input)
            if (constant := self.values[name].constant) is not None
        }
        node = Node(
            name=node_name(proto),
            domain=domain,
            operator=proto.op_type,
            opset=self.graph.opsets.get(domain, 1),
            inputs=tuple(proto.input),
            outputs=tuple(proto.output),
            attributes={a.name: _attribute(a) for a in proto.attribute},
            constants=constants,
            ranks={i: self.ranks[name] for i, name in enumerate(proto.input) if name in self.ranks},
            statistics=frozenset(i for i, name in enumerate(proto.input) if name in self.roles.statistics),
        )
        present = [self.values[name] for name in node.inputs if name]
        known = all(value.constant is not None for value in present)
        forms = [self.values[name].host_form for name in node.inputs]
        if all(form is not None or not name for form, name in zip(forms, node.inputs, strict=True)):
            built = build_host(node, [form or NUMBER for form in forms])
            if built is not None:
                self._host_step(node, *built, fold=known)
                return
        row = find(domain, node.operator, node.opset)
        assert row is not None  # noqa: S101  # _refuse_unsupported has seen to it
        self._tensor_step(node, row, fold=known and bool(present))

    def _host_step(self, node: Node, kernel: Kernel, form: Host, fold: bool) -> None:
        slots = [self._host_slot(name) for name in node.inputs]
        if fold:
            result = kernel(*[self.template[slot] for slot in slots])
            self.values[node.outputs[0]] = _Value(constant=_to_array(result))
            return
        slot = self._new_slot()
        self.values[node.outputs[0]] = _Value(slot, form=form)
        self._step(kernel, slots, slot, node)

    def _tensor_step(self, node: Node, row: Operator, fold: bool) -> None:
        kernel = row.build(node)
        if fold:
            self._fold(node, row, kernel)
            return
        slots = [TRAINING] * row.training + [DEVICE] * row.device
        some_tensor = any(self.values[name].host_form is None for name in node.inputs if name)
        for position, name in enumerate(node.inputs):
            form = self.values[name].host_form
            number = form is not None and not form.is_list and row.scalars and some_tensor
            as_numbers = position in row.host or number
            slots.append(self._host_slot(name) if as_numbers else self._tensor_slot(name))
        results = [self._new_slot() for _ in node.outputs]
        form = None
        if row.result == "number":
            form = NUMBER
        elif row.result == "list":
            rank = node.ranks.get(0)
            bounds = slice(node.attribute("start", 0), node.attribute("end"))
            form = Host(-1 if rank is None else len(range(rank)[bounds]))
        for name, slot in zip(node.outputs, results, strict=True):
            if name:
                self.values[name] = _Value(slot, form=form)
        self._step(kernel, slots, results[0] if len(results) == 1 else tuple(results), node)

    def _fold(self, node: Node, row: Operator, kernel: Kernel) -> None:
        """Computes a node whose inputs are all known."""
        arguments: list[Any] = [False] * row.training + [torch.device("cpu")] * row.device
        for position, name in enumerate(node.inputs):
            constant = self.values[name].constant
            if constant is None:
                arguments.append(None)
            else:
                arguments.append(constant.tolist() if position in row.host else to_torch(constant))
        with torch.no_grad():
            result = kernel(*arguments)
        results = [result] if len(node.outputs) == 1 else list(result)
        for name, value in zip(node.outputs, results, strict=False):
            if name:
                self.values[name] = _Value(constant=_to_array(value))


def _attribute(proto: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        return value.decode()
    return list(value) if proto.type in (proto.INTS, proto.FLOATS) else value


def _to_array(value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        return value.numpy()
    dtype = np.int64 if isinstance(value, list) and not value else None
    array = np.asarray(value, dtype=dtype)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def to_torch(values: np.ndarray) -> Tensor:
    """A constant in the type that it is computed in."""
    element_type = helper.np_dtype_to_tensor_dtype(values.dtype)
    dtype = compute_dtype(element_type)
    if dtype is torch.float32:
        return torch.from_numpy(np.array(values, dtype=np.float32))
    return torch.from_numpy(np.array(values, dtype=str(dtype).removeprefix("torch.")))


def _numbers_to_tensor(device: torch.device, value: Any) -> Tensor:
    return torch.tensor(value, dtype=torch.int64 if value == [] else None, device=device)


def _with_lifetimes(steps: list[Step], outputs: tuple[int, ...]) -> tuple[Step, ...]:
    """Notes at each step which computed slots nobody reads any more."""
    computed: set[int] = set()
    for step in steps:
        computed.update([step.output] if isinstance(step.output, int) else step.output)
    keep, planned = set(outputs), []
    for step in reversed(steps):
        made = {step.output} if isinstance(step.output, int) else set(step.output)
        dead = ((set(step.inputs) | made) & computed) - keep
        keep |= set(step.inputs)
        planned.append(replace(step, dead=tuple(sorted(dead))))
    return tuple(reversed(planned))
