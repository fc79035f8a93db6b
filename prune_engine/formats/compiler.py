"""Graph -> plan: constants are folded, every other node becomes one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from onnx import NodeProto, TensorProto, ValueInfoProto, helper
from torch import Tensor

from prune_engine.errors import ModelError
from prune_engine.formats.bodies import Routine, routine
from prune_engine.formats.control_flow import add_control_flow
from prune_engine.formats.graph import (
    NONSENSE,
    Body,
    Graph,
    attribute_value,
    domain_of,
    node_name,
    wrong_values,
)
from prune_engine.formats.modifiers import add_flex_attention, add_sequence_map
from prune_engine.formats.operators import Kernel, Node, NotSupportedError, Operator, find
from prune_engine.formats.operators.carried import carried_results, element_types, exact
from prune_engine.formats.operators.dtypes import INTEGER_RANGES
from prune_engine.formats.operators.flex_attention import PREVIEW
from prune_engine.formats.operators.shape_arithmetic import NUMBER, Host, build_host
from prune_engine.formats.plan import DEVICE, FIRST_FREE, TRAINING, Plan, Step, with_lifetimes
from prune_engine.formats.scopes import CONTROL_FLOW
from prune_engine.formats.support import STRINGS, Problem, input_type, operator_label, refuse, way_round
from prune_engine.formats.tensors import to_numpy
from prune_engine.formats.values import Value, numbers_to_tensor, to_array, to_torch
from prune_engine.formats.weights import Roles


class Compiler:
    """Walks the nodes once and collects the plan."""

    def __init__(self, graph: Graph, roles: Roles) -> None:
        self.graph, self.roles, self.types = graph, roles, dict(graph.types)
        self.problems: list[Problem] = []
        self.template: list[Any] = [None] * FIRST_FREE
        self.steps: list[Step] = []
        self.tensors: list[tuple[int, str]] = []
        self.parameters: dict[str, np.ndarray] = {}
        self.buffers: dict[str, Tensor] = {}
        self.values: dict[str, Value] = {"": Value()}
        self.as_tensor: dict[str, int] = {}
        self.as_host: dict[str, int] = {}

    def run(self) -> Plan:
        """The plan of the whole graph.

        Raises:
            UnsupportedOperatorError: with everything that cannot be computed.
            ModelError: a node's values are wrong.
        """
        inputs = []
        for value in self.graph.inputs:
            slot = self.new_slot()
            self.values[value.name] = Value(slot)
            inputs.append((slot, self._input_type(value)))
        for name, tensor in self.graph.constants.items():
            self._constant(name, tensor)
        for node in self.graph.nodes:
            try:
                self.add_node(node)
            except NONSENSE as error:
                if self.problems:
                    break  # it may well come of what could not be computed before
                raise wrong_values(node, error) from error
        refuse(self.problems)
        outputs = tuple(self._output_slot(value.name) for value in self.graph.outputs)
        refuse(self.problems)
        return Plan(
            with_lifetimes(self.steps, outputs),
            tuple(self.template),
            tuple(inputs),
            outputs,
            tuple(self.tensors),
            self.parameters,
            self.buffers,
            self.roles.quantised,
        )

    def _output_slot(self, name: str) -> int:
        if name not in self.values:  # of a node that has more results than its operator or function
            raise ModelError(f"Nothing computes the graph output {name!r}. The file is damaged.")
        try:
            return self.tensor_slot(name)
        except NotSupportedError as error:
            self.problems.append(Problem(error.what, f"the output {name!r}", error.instead))
            return self.new_slot()

    def _input_type(self, value: ValueInfoProto) -> torch.dtype:
        try:
            return input_type(value)
        except NotSupportedError as error:
            self.problems.append(Problem(error.what, f"the input {value.name!r}", error.instead))
            return torch.float32

    def _constant(self, name: str, tensor: TensorProto) -> None:
        if tensor.data_type == TensorProto.STRING:
            self.problems.append(Problem("string values", f"the constant {name!r}", STRINGS))
            self.values[name] = Value(self.new_slot())
            return
        values = to_numpy(tensor, f"The initializer {name!r}")
        if name not in self.roles.trained and name not in self.roles.statistics:
            self.values[name] = Value(constant=values)
            return
        slot = self.new_slot()
        self.values[name] = Value(slot)
        self.tensors.append((slot, name))
        if name in self.roles.trained:
            # A copy of its own, made while the file's is still warm: the module trains in it.
            self.parameters[name] = np.array(values) if values.dtype == np.float32 else values
            if name in self.roles.quantised:
                self._quantised(name, slot)
        else:
            self.buffers[name] = torch.from_numpy(values.astype(np.float32))

    def _quantised(self, name: str, slot: int) -> None:
        """Has the float in `slot` rounded to what the file will hold of it."""
        kept = self.roles.quantised[name]
        places = [slot]
        for part, values in (("scale", kept.scale), ("zero point", kept.zero_point)):
            self.buffers[f"{name}/{part}"] = torch.from_numpy(values.copy())
            places.append(self.new_slot())
            self.tensors.append((places[-1], f"{name}/{part}"))
        stored = self.new_slot()
        self.steps.append(Step(kept.steps, tuple(places), stored, (), "QuantizeLinear", name))
        carries = kept.element_type if kept.element_type in INTEGER_RANGES else None
        self.values[name] = Value(stored, carries=carries)

    def new_slot(self, value: Any = None) -> int:
        """A slot that starts out with `value`."""
        self.template.append(value)
        return len(self.template) - 1

    def _step(
        self, kernel: Kernel, inputs: Sequence[int], output: int | tuple[int, ...], node: Node | None = None
    ) -> None:
        operator, name = ("to tensor" if node is None else node.operator), ("" if node is None else node.name)
        self.steps.append(Step(kernel, tuple(inputs), output, (), operator, name))

    def tensor_slot(self, name: str) -> int:
        """The slot where a value lies as a tensor."""
        value = self.values[name]
        if not name or (value.constant is None and value.form is None and value.carries is None):
            return value.slot
        if name not in self.as_tensor:
            slot = self.new_slot()
            if value.carries is not None:
                self._step(exact(value.carries), (value.slot,), slot)
            elif value.constant is not None:
                self.buffers[name] = to_torch(value.constant)
                self.tensors.append((slot, name))
            else:
                self._step(numbers_to_tensor, (DEVICE, value.slot), slot)
            self.as_tensor[name] = slot
        return self.as_tensor[name]

    def _carried_slot(self, name: str) -> int:
        """The slot where a value lies as a tensor; integers may be carried in float32."""
        value = self.values[name]
        return self.tensor_slot(name) if value.carries is None else value.slot

    def host_slot(self, name: str) -> int:
        """The slot where a value lies as Python numbers."""
        value = self.values[name]
        if not name or value.form is not None:
            return value.slot
        if name not in self.as_host:
            if value.constant is not None:
                self.as_host[name] = self.new_slot(value.constant.tolist())
            else:
                self.as_host[name] = slot = self.new_slot()
                self._step(Tensor.tolist, (self.tensor_slot(name),), slot)
        return self.as_host[name]

    def add_node(self, proto: NodeProto) -> None:
        """One node: nothing where its result is known, else a step.

        What cannot be computed is noted in `problems`; the import goes on, to find the rest of it.
        """
        try:
            if proto.op_type in CONTROL_FLOW and domain_of(proto) == "":
                add_control_flow(self, proto)
            elif proto.op_type == "FlexAttention" and domain_of(proto) == PREVIEW:
                add_flex_attention(self, proto)
            elif proto.op_type == "SequenceMap" and domain_of(proto) == "":
                add_sequence_map(self, proto)
            else:
                self._node(proto)
        except NotSupportedError as error:
            self.problems.append(
                Problem(operator_label(self.graph, proto, error.what), node_name(proto), error.instead)
            )
            self.values.update({name: Value(self.new_slot()) for name in proto.output if name})

    def add_step(
        self, kernel: Kernel, inputs: Sequence[int], output: int | tuple[int, ...], proto: NodeProto
    ) -> None:
        """A step for a node with bodies."""
        self.steps.append(Step(kernel, tuple(inputs), output, (), proto.op_type, node_name(proto)))

    def add_body(
        self, body: Body, forms: Sequence[Host | None], results: Callable[[], Sequence[int]]
    ) -> Routine:
        """A body as a routine.

        Args:
            forms: of its arguments: as numbers, or None for tensors.
            results: called when the nodes are compiled, gives the slots of the results.
        """
        outer = self.steps, self.as_tensor, self.as_host
        self.steps, self.as_tensor, self.as_host = [], dict(self.as_tensor), dict(self.as_host)
        arguments = [self.new_slot() for _ in body.inputs]
        for name, slot, form in zip(body.inputs, arguments, forms, strict=True):
            self.values[name] = Value(slot, form=form)
        for node in body.nodes:
            self.add_node(node)
        compiled = routine(self.steps, self.template, arguments, results())
        self.steps, self.as_tensor, self.as_host = outer
        return compiled

    def _asked_for_nan(self, proto: NodeProto) -> bool:
        users = self.graph.consumers.get(proto.output[0], []) if proto.output else []
        return any(user.op_type == "IsNaN" for user, _ in users)

    def _node(self, proto: NodeProto) -> None:
        domain = domain_of(proto)
        constants = {
            i: constant
            for i, name in enumerate(proto.input)
            if (constant := self.values[name].constant) is not None
        }
        node = Node(
            name=node_name(proto),
            domain=domain,
            operator=proto.op_type,
            opset=self.graph.opset(proto),
            inputs=tuple(proto.input),
            outputs=tuple(proto.output),
            attributes={a.name: attribute_value(a) for a in proto.attribute},
            constants=constants,
            ranks={
                i: len(self.graph.shapes[name])
                for i, name in enumerate(proto.input)
                if name in self.graph.shapes
            },
            types=self._types(proto.input, constants),
            statistics=frozenset(i for i, name in enumerate(proto.input) if name in self.roles.statistics),
            asked_for_nan=self._asked_for_nan(proto),
        )
        self.types.update(zip(node.outputs, element_types(node), strict=False))
        present = [self.values[name] for name in node.inputs if name]
        known = all(value.constant is not None for value in present)
        forms = [self.values[name].host_form for name in node.inputs]
        if all(form is not None or not name for form, name in zip(forms, node.inputs, strict=True)):
            built = build_host(node, [form or NUMBER for form in forms])
            if built is not None:
                self._host_step(node, *built, fold=known)
                return
        row = find(domain, node.operator, node.opset)
        if row is None:
            raise NotSupportedError("", way_round(node))
        self._tensor_step(node, row, fold=known and bool(present) and row.folds)

    def _types(self, names: Sequence[str], constants: dict[int, np.ndarray]) -> dict[int, int]:
        known = {i: helper.np_dtype_to_tensor_dtype(constant.dtype) for i, constant in constants.items()}
        return known | {i: self.types[name] for i, name in enumerate(names) if name in self.types}

    def _host_step(self, node: Node, kernel: Kernel, form: Host, fold: bool) -> None:
        slots = [self.host_slot(name) for name in node.inputs]
        if fold:
            result = kernel(*[self.template[slot] for slot in slots])
            self.values[node.outputs[0]] = Value(constant=to_array(result))
            return
        slot = self.new_slot()
        self.values[node.outputs[0]] = Value(slot, form=form)
        self._step(kernel, slots, slot, node)

    def _tensor_step(self, node: Node, row: Operator, fold: bool) -> None:
        kernel = row.build(node)
        if fold:
            self._fold(node, row, kernel)
            return
        carried = carried_results(node, [self.values[name].carries for name in node.inputs])
        slot_of = self.tensor_slot if carried is None else self._carried_slot
        slots = [TRAINING] * row.training + [DEVICE] * row.device
        some_tensor = any(self.values[name].host_form is None for name in node.inputs if name)
        for position, name in enumerate(node.inputs):
            form = self.values[name].host_form
            number = form is not None and not form.is_list and row.scalars and some_tensor
            as_numbers = position in row.host or number
            slots.append(self.host_slot(name) if as_numbers else slot_of(name))
        results = [self.new_slot() for _ in node.outputs]
        form = None
        if row.result == "number":
            form = NUMBER
        elif row.result == "list":
            rank = node.ranks.get(0)
            bounds = slice(node.attribute("start", 0), node.attribute("end"))
            form = Host(-1 if rank is None else len(range(rank)[bounds]))
        kinds = carried or (None,) * len(results)
        for name, slot, kind in zip(node.outputs, results, kinds, strict=True):
            if name:
                self.values[name] = Value(slot, form=form, carries=kind)
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
        kinds = carried_results(node, [None] * len(node.inputs)) or (None,) * len(node.outputs)
        for name, value, kind in zip(node.outputs, results, kinds, strict=False):
            if name:
                self.values[name] = Value(constant=to_array(value, kind))
