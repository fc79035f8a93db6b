"""Along which axis of its weight a node sums over its inputs, and in how many groups it does so."""

from __future__ import annotations

from onnx import NodeProto, helper

_FIXED = {"Conv": 1, "ConvTranspose": 0, "LSTM": 2, "GRU": 2, "RNN": 2, "Embedding": 1}


def input_axis(node: NodeProto, position: int, kind: str, output_axis: int, rank: int) -> int | None:
    """The axis of the weight at `position` that counts inputs; None where there is no such axis.

    An embedding counts as it lies: a row for each entry, its features along axis 1. Of a product that sums
    over several axes it is the last of them.

    Args:
        kind: as `PrunableWeight` has it.
        output_axis: of the weight as the node sees it.
        rank: of the weight as the node sees it.
    """
    if node.op_type == "Einsum":
        return _summed(node, position)
    if kind in _FIXED:
        return _FIXED[kind] if _FIXED[kind] < rank else None
    others = [axis for axis in (rank - 2, rank - 1) if axis != output_axis]
    return others[0] if rank > 1 and len(others) == 1 else None


def _summed(node: NodeProto, position: int) -> int | None:
    equation = next(helper.get_attribute_value(a) for a in node.attribute if a.name == "equation")
    terms, result = equation.decode().replace(" ", "").split("->")
    labels = terms.split(",")[position]
    summed = [axis for axis, label in enumerate(labels) if label not in result]
    return summed[-1] if summed else None


def group_count(node: NodeProto) -> int:
    """Groups of a convolution; each has outputs and inputs of its own. 1 for everything else."""
    found = [helper.get_attribute_value(a) for a in node.attribute if a.name == "group"]
    return int(found[0]) if found else 1
