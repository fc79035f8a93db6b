"""If, Loop and Scan at import: their bodies become routines, and they themselves steps that call these."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import NodeProto, ValueInfoProto, helper

from prune_engine.errors import ModelError
from prune_engine.formats.bodies import Axes, Routine, batched_scan, choice, empty_stack, loop, scan
from prune_engine.formats.graph import Body, node_name
from prune_engine.formats.operators.dtypes import compute_dtype
from prune_engine.formats.operators.shape_arithmetic import NUMBER, Host
from prune_engine.formats.plan import DEVICE
from prune_engine.formats.values import Value

if TYPE_CHECKING:
    from prune_engine.formats.compiler import Compiler


def add_control_flow(compiler: Compiler, node: NodeProto) -> None:
    """Compiles one If, Loop or Scan.

    Raises:
        ModelError: its bodies do not fit it or one another.
    """
    {"If": _if, "Loop": _loop, "Scan": _scan}[node.op_type](compiler, node)


def _body(compiler: Compiler, node: NodeProto, attribute: str, inputs: int | None, outputs: int) -> Body:
    """A body, of which the numbers of inputs and outputs are checked."""
    body = compiler.graph.bodies_of(node).get(attribute)
    if body is None:
        raise ModelError(f"{node_name(node)} has no {attribute}. The file is damaged.")
    if inputs is not None and len(body.inputs) != inputs:
        raise ModelError(
            f"{node_name(node)}: its {attribute} takes {len(body.inputs)} inputs, and {inputs} are given."
        )
    if len(body.outputs) != outputs:
        raise ModelError(
            f"{node_name(node)}: its {attribute} has {len(body.outputs)} outputs, and {outputs} are needed."
        )
    return body


def _if(compiler: Compiler, node: NodeProto) -> None:
    """Takes the branch at once where the condition is known; otherwise both are compiled."""
    branches = [
        _body(compiler, node, attribute, 0, len(node.output)) for attribute in ("then_branch", "else_branch")
    ]
    _same_types(node, branches[0].results, branches[1].results)
    condition = compiler.values[node.input[0]].constant
    if condition is not None:
        taken = branches[0 if condition.reshape(-1)[0] else 1]
        for inner in taken.nodes:
            compiler.add_node(inner)
        for name, result in zip(node.output, taken.outputs, strict=True):
            compiler.values[name] = compiler.values[result]
        return
    asked = compiler.host_slot(node.input[0])
    then, first = _branch(compiler, branches[0], None)
    otherwise, second = _branch(compiler, branches[1], None)
    agreed = [a if a == b else None for a, b in zip(first, second, strict=True)]
    if agreed != first:
        then, _ = _branch(compiler, branches[0], agreed)
    if agreed != second:
        otherwise, _ = _branch(compiler, branches[1], agreed)
    _finish(compiler, node, choice(then, otherwise), (asked, *then.outer, *otherwise.outer), agreed)


def _branch(
    compiler: Compiler, body: Body, agreed: Sequence[Host | None] | None
) -> tuple[Routine, list[Host | None]]:
    """A branch that gives sizes and counts as numbers, at first where it can, then as both have agreed."""
    own: list[Host | None] = []

    def results() -> list[int]:
        own.extend(_counter(compiler.values[name]) for name in body.outputs)
        forms = own if agreed is None else agreed
        return [
            compiler.tensor_slot(name) if form is None else compiler.host_slot(name)
            for name, form in zip(body.outputs, forms, strict=True)
        ]

    return compiler.add_body(body, [], results), own


def _same_types(node: NodeProto, then: Sequence[ValueInfoProto], otherwise: Sequence[ValueInfoProto]) -> None:
    for name, a, b in zip(node.output, then, otherwise, strict=True):
        kinds = a.type.WhichOneof("value"), b.type.WhichOneof("value")
        types = a.type.tensor_type.elem_type, b.type.tensor_type.elem_type
        if (None not in kinds and kinds[0] != kinds[1]) or (all(types) and types[0] != types[1]):
            raise ModelError(
                f"{node_name(node)}: its branches disagree about {name!r}: the then branch gives "
                f"{_type_name(a)}, the else branch {_type_name(b)}. Make both give the same type."
            )


def _type_name(value: ValueInfoProto) -> str:
    kind = value.type.WhichOneof("value") or "tensor_type"
    if kind != "tensor_type":
        return kind.removesuffix("_type").replace("_", " ")
    return helper.tensor_dtype_to_string(value.type.tensor_type.elem_type).removeprefix("TensorProto.")


def _loop(compiler: Compiler, node: NodeProto) -> None:
    """States that count or hold sizes stay Python numbers, as long as the body gives them back as such."""
    given = node.input[2:]
    states = len(given)
    body = _body(compiler, node, "body", 2 + states, 1 + len(node.output))
    scans = body.results[1 + states :]
    forms = [_counter(compiler.values[name]) for name in given]
    while True:
        routine, returned = _loop_body(compiler, body, forms)
        kept = [form if form == found else None for form, found in zip(forms, returned, strict=True)]
        if kept == forms:
            break
        forms = kept
    empty = [
        empty_stack(compiler.graph.shapes.get(name), _scan_type(value))
        for name, value in zip(body.outputs[1 + states :], scans, strict=True)
    ]
    slots = [
        compiler.tensor_slot(name) if form is None else compiler.host_slot(name)
        for name, form in zip(given, forms, strict=True)
    ]
    count, condition = (
        compiler.host_slot(node.input[i]) if len(node.input) > i else compiler.host_slot("") for i in (0, 1)
    )
    inputs = (DEVICE, count, condition, *slots, *routine.outer)
    _finish(compiler, node, loop(routine, states, empty), inputs, [*forms, *[None] * len(scans)])


def _loop_body(
    compiler: Compiler, body: Body, forms: Sequence[Host | None]
) -> tuple[Routine, list[Host | None]]:
    """The body with its states in these forms, and the forms in which it gives them back."""
    states = len(forms)
    returned: list[Host | None] = []

    def results() -> list[int]:
        returned.extend(compiler.values[name].host_form for name in body.outputs[1 : 1 + states])
        slots = [compiler.host_slot(body.outputs[0])]
        for name, form in zip(body.outputs[1 : 1 + states], forms, strict=True):
            own = form is not None and compiler.values[name].host_form == form
            slots.append(compiler.host_slot(name) if own else compiler.tensor_slot(name))
        return slots + [compiler.tensor_slot(name) for name in body.outputs[1 + states :]]

    return compiler.add_body(body, [NUMBER, NUMBER, *forms], results), returned


def _counter(value: Value) -> Host | None:
    """The form of a value that bodies take and give as numbers: int64, which sizes are, or truth values."""
    if value.constant is not None and value.constant.dtype not in (np.int64, np.bool_):
        return None
    form = value.host_form
    return form if form is None or form.length != -1 else None


def _scan_type(value: ValueInfoProto) -> Any:
    return compute_dtype(value.type.tensor_type.elem_type or 1)


def _scan(compiler: Compiler, node: NodeProto) -> None:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute if not a.HasField("g")}
    batched = compiler.graph.opset(node) < 9
    given = list(node.input[1:] if batched else node.input)
    sequences = int(attributes["num_scan_inputs"])
    states = len(given) - sequences
    stacked = len(node.output) - states
    body = _body(compiler, node, "body", len(given), len(node.output))
    inputs = Axes(
        tuple(attributes.get("scan_input_axes") or [0] * sequences),
        _directions(attributes, "directions" if batched else "scan_input_directions", sequences),
    )
    outputs = Axes(
        tuple(attributes.get("scan_output_axes") or [0] * stacked),
        _directions(attributes, "scan_output_directions", stacked),
    )
    slots = [compiler.tensor_slot(name) for name in given]
    routine = compiler.add_body(body, [None] * len(given), partial(_tensors, compiler, body))
    if batched:
        lengths = compiler.tensor_slot(node.input[0])
        kernel = batched_scan(routine, states, inputs, outputs)
        _finish(compiler, node, kernel, (lengths, *slots, *routine.outer))
    else:
        _finish(compiler, node, scan(routine, states, inputs, outputs), (*slots, *routine.outer))


def _tensors(compiler: Compiler, body: Body) -> list[int]:
    """The results of a body as tensors."""
    return [compiler.tensor_slot(name) for name in body.outputs]


def _directions(attributes: dict[str, Any], name: str, count: int) -> tuple[bool, ...]:
    return tuple(bool(direction) for direction in attributes.get(name) or [0] * count)


def _finish(
    compiler: Compiler,
    node: NodeProto,
    kernel: Any,
    inputs: Sequence[int],
    forms: Sequence[Host | None] = (),
) -> None:
    """The step of the node itself."""
    results = tuple(compiler.new_slot() for _ in node.output)
    for name, slot, form in zip(node.output, results, forms or [None] * len(results), strict=True):
        if name:
            compiler.values[name] = Value(slot, form=form)
    compiler.add_step(kernel, inputs, results[0] if len(results) == 1 else results, node)
