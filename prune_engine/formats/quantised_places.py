"""At which inputs operators of quantised arithmetic take an integer weight, and where its scale is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from onnx import NodeProto, helper

from prune_engine.formats.graph import domain_of


@dataclass(frozen=True)
class IntegerPlace:
    """An integer weight operand.

    Args:
        position: of the weight among the inputs.
        scale, zero_point: of its parameters; None where the operator takes none.
        kind: as `PrunableWeight` has it.
        output_axis: the axis of the outputs, as a function of the weight's rank; scales by channel lie there.
    """

    position: int
    scale: int | None
    zero_point: int
    kind: str
    output_axis: Callable[[int], int]

    def parameter(self, node: NodeProto, position: int | None) -> str:
        """The name of the node's input at `position`, "" where it has none."""
        return "" if position is None or position >= len(node.input) else str(node.input[position])


_FIRST = {"ConvInteger": (1, None, 3), "QLinearConv": (3, 4, 5)}
_LAST = {"MatMulInteger": (1, None, 3), "QLinearMatMul": (3, 4, 5)}
_MICROSOFT_LAST = {"MatMulIntegerToFloat": (1, 3, 5), "DynamicQuantizeMatMul": (1, 2, 3)}


def integer_places(node: NodeProto) -> Iterator[IntegerPlace]:
    """The integer weight operands of a node."""
    domain, name = domain_of(node), node.op_type
    if domain == "" and name in _FIRST:
        yield IntegerPlace(*_FIRST[name], "Conv", lambda rank: 0)
    elif (domain == "" and name in _LAST) or (domain == "com.microsoft" and name in _MICROSOFT_LAST):
        yield IntegerPlace(*(_LAST.get(name) or _MICROSOFT_LAST[name]), "MatMul", lambda rank: rank - 1)
    elif domain == "com.microsoft" and name == "QGemm":
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        axis = 0 if attributes.get("transB", 0) else 1
        yield IntegerPlace(3, 4, 5, "Gemm", lambda rank: axis)
