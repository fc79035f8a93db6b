"""At which inputs of its nodes a graph has weights, biases, scales and shifts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from onnx import NodeProto, helper

_NORMS = (
    "BatchNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "RMSNormalization",
)


def weight_places(
    node: NodeProto, rank_of: Callable[[str], int | None]
) -> Iterator[tuple[int, str, Callable[[int], int]]]:
    """The positions of weight operands, with the kind and the output axis as a function of the rank."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Conv":
        yield 1, "Conv", lambda rank: 0
    elif node.op_type == "ConvTranspose":
        yield 1, "ConvTranspose", lambda rank: 1
    elif node.op_type == "Gemm":
        yield 1, "Gemm", lambda rank: 0 if attributes.get("transB", 0) else 1
        yield 0, "Gemm", lambda rank: 1 if attributes.get("transA", 0) else 0
    elif node.op_type == "MatMul":
        yield 1, "MatMul", lambda rank: rank - 1
        yield 0, "MatMul", lambda rank: max(rank - 2, 0)
    elif node.op_type == "Gather" and attributes.get("axis", 0) == 0 and rank_of(node.input[0]) == 2:
        yield 0, "Embedding", lambda rank: 0
    elif node.op_type == "Einsum" and len(node.input) == 2:
        terms = attributes["equation"].decode().replace(" ", "").split("->")
        if len(terms) == 2 and "." not in terms[0]:
            operands = terms[0].split(",")
            for position, labels in enumerate(operands):
                free = [i for i, c in enumerate(labels) if c in terms[1] and c not in operands[1 - position]]
                if any(c not in terms[1] for c in labels) and free:
                    yield position, "MatMul", partial(_always, free[-1])


def _always(axis: int, _rank: int) -> int:
    return axis


def vector_places(node: NodeProto) -> tuple[int, ...]:
    """The positions of biases, norm scales and shifts, and slopes."""
    if node.op_type in ("Conv", "ConvTranspose", "Gemm"):
        return (2,)
    if node.op_type in _NORMS:
        return (1, 2)
    return (1,) if node.op_type == "PRelu" else ()
