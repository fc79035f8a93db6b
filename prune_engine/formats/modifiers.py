"""FlexAttention and SequenceMap at import: their subgraphs become routines that their kernels call."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from onnx import NodeProto
from torch import Tensor

from prune_engine.errors import ModelError
from prune_engine.formats.bodies import Routine
from prune_engine.formats.graph import Body, node_name
from prune_engine.formats.operators.flex_attention import Modifier, flexible_attention
from prune_engine.formats.operators.sequences import mapped
from prune_engine.formats.values import Value

if TYPE_CHECKING:
    from prune_engine.formats.compiler import Compiler

_MODIFIERS = ("score_mod", "prob_mod")


def add_flex_attention(compiler: Compiler, node: NodeProto) -> None:
    """Compiles one FlexAttention with its subgraphs.

    Raises:
        ModelError: a subgraph has not one input and one output.
    """
    scale = next((attribute.f for attribute in node.attribute if attribute.name == "scale"), None)
    bodies = compiler.graph.bodies_of(node)
    routines = [_routine(compiler, node, bodies[name]) if name in bodies else None for name in _MODIFIERS]
    sizes = [0 if routine is None else len(routine.outer) for routine in routines]

    def kernel(q: Tensor, k: Tensor, v: Tensor, *captured: Any) -> Tensor:
        parts = captured[: sizes[0]], captured[sizes[0] :]
        modifiers = [_modifier(routine, part) for routine, part in zip(routines, parts, strict=True)]
        result: Tensor = flexible_attention(scale, *modifiers)(q, k, v)
        return result

    slot = compiler.new_slot()
    compiler.values[node.output[0]] = Value(slot)
    inputs = [compiler.tensor_slot(name) for name in node.input]
    outer = [place for routine in routines if routine is not None for place in routine.outer]
    compiler.add_step(kernel, (*inputs, *outer), slot, node)


def add_sequence_map(compiler: Compiler, node: NodeProto) -> None:
    """Compiles one SequenceMap.

    Raises:
        ModelError: its body is missing, or does not fit its inputs and outputs.
    """
    body = compiler.graph.bodies_of(node).get("body")
    if body is None or len(body.inputs) != len(node.input) or len(body.outputs) != len(node.output):
        raise ModelError(f"{node_name(node)}: its body has other inputs or outputs than the node.")
    results = partial(_tensors, compiler, body)
    routine = compiler.add_body(body, [None] * len(body.inputs), results)
    count = len(node.input)

    def kernel(*values: Any) -> Any:
        captured = values[count:]
        return mapped(lambda *row: routine(row, captured), len(node.output))(*values[:count])

    slots = tuple(compiler.new_slot() for _ in node.output)
    compiler.values.update({name: Value(slot) for name, slot in zip(node.output, slots, strict=True) if name})
    inputs = [compiler.tensor_slot(name) for name in node.input]
    compiler.add_step(kernel, (*inputs, *routine.outer), slots[0] if len(slots) == 1 else slots, node)


def _tensors(compiler: Compiler, body: Body) -> list[int]:
    return [compiler.tensor_slot(name) for name in body.outputs]


def _routine(compiler: Compiler, node: NodeProto, body: Body) -> Routine:
    if len(body.inputs) != 1 or len(body.outputs) != 1:
        raise ModelError(f"{node_name(node)}: a modifier must have one input and one output.")
    return compiler.add_body(body, [None], partial(_tensors, compiler, body))


def _modifier(routine: Routine | None, captured: tuple[Any, ...]) -> Modifier | None:
    if routine is None:
        return None

    def modify(x: Tensor) -> Tensor:
        result: Tensor = routine([x], captured)[0]
        return result

    return modify
