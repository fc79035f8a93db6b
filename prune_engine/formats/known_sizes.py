"""Sizes of values that do not depend on the batch, as far as weights and node attributes tell them.

Exporters write bounds such as "the first E rows of this weight" as arithmetic on the size of some layer's
output. Where that size follows from the graph, so do the bounds. Axes are counted from the last one, since
the number of axes is often not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from onnx import NodeProto

from prune_engine.formats.aliases import Numbers
from prune_engine.formats.graph import Graph, Shape, attribute_value, domain_of

_SAME = frozenset((
    "Identity", "Cast", "Dropout", "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Mish",
    "HardSwish", "HardSigmoid", "Swish", "Sigmoid", "Tanh", "Softplus", "Softsign", "Softmax", "LogSoftmax",
    "Erf", "Sqrt", "Exp", "Log", "Neg", "Abs", "Reciprocal", "Clip", "Floor", "Ceil", "Round", "Sin", "Cos",
    "Not", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LpNormalization", "Trilu",
))  # fmt: skip
_BROADCAST = frozenset((
    "Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Mod", "Where", "And", "Or", "Xor", "Equal", "Less",
    "Greater",
))  # fmt: skip
_NORMS = frozenset(("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"))


@dataclass(frozen=True)
class Sizes:
    """What is known of a shape: `rank`, and `of[i]`, the size of the axis that is number i from the end
    (1 is the last)."""

    rank: int | None = None
    of: Mapping[int, int] = field(default_factory=dict)

    def listed(self) -> list[int | None] | None:
        """The shape as a list, None for what is not known; None without a rank."""
        if self.rank is None:
            return None
        return [self.of.get(self.rank - axis) for axis in range(self.rank)]


_UNKNOWN = Sizes()


class KnownSizes:
    """Grows while the nodes are walked in order of computation."""

    def __init__(self, graph: Graph) -> None:
        self._found: dict[str, Sizes] = {
            name: _sizes(tuple(tensor.dims)) for name, tensor in graph.constants.items()
        }
        for value in graph.inputs:
            if (shape := graph.shapes.get(value.name)) is not None:
                self._found[value.name] = _sizes((None, *shape[1:]))  # the first axis is the batch

    def of(self, name: str) -> Sizes:
        """What is known of a value."""
        return self._found.get(name, _UNKNOWN)

    def follow(self, node: NodeProto, numbers: Numbers, partly: Numbers) -> None:
        """Finds what can be told of the first result from what is known of the inputs.

        Args:
            numbers: axes, by name.
            partly: shapes, in which None stands for a size that is not known.
        """
        if domain_of(node) != "" or not node.input or not node.output:
            return
        given = [self.of(name) for name in node.input]
        if node.op_type in ("Expand", "ConstantOfShape"):
            wanted = partly(node.input[-1])
            target = None if wanted is None else _wanted(wanted)
            found = _broadcast([given[0], target]) if target and node.op_type == "Expand" else target
        else:
            found = self._result(node, given, numbers)
        if found is not None and (found.rank is not None or found.of):
            self._found[node.output[0]] = found

    def _result(self, node: NodeProto, given: Sequence[Sizes], numbers: Numbers) -> Sizes | None:
        first = given[0]
        if node.op_type in _SAME:
            return first
        if node.op_type in _BROADCAST:
            return _broadcast(given)
        if node.op_type in _NORMS:
            return replace(first, of={**first.of, **_wide(given[1])}) if len(given) > 1 else first
        if node.op_type == "MatMul":
            columns = {1: given[1].of[1]} if 1 in given[1].of else {}
            return Sizes(first.rank, {**{axis: n for axis, n in first.of.items() if axis > 1}, **columns})
        if node.op_type not in ("Gemm", "Transpose", "Unsqueeze"):
            return None
        attributes = {a.name: attribute_value(a) for a in node.attribute}
        if node.op_type == "Gemm":
            axis = 2 if attributes.get("transB", 0) else 1
            return Sizes(2, {1: given[1].of[axis]} if axis in given[1].of else {})
        if node.op_type == "Transpose":
            order = attributes.get("perm")
            return _transposed(first, order) if order else None
        axes = attributes.get("axes") if len(node.input) == 1 else numbers(node.input[1])
        return None if axes is None else _unsqueezed(first, np.reshape(axes, -1).tolist())


def _wanted(shape: np.ndarray) -> Sizes:
    sizes = shape.reshape(-1).tolist()
    return _sizes(tuple(None if size is None or size < 0 else int(size) for size in sizes))


def _sizes(shape: Shape) -> Sizes:
    count = len(shape)
    return Sizes(count, {count - axis: size for axis, size in enumerate(shape) if size is not None})


def _wide(sizes: Sizes) -> dict[int, int]:
    return {axis: size for axis, size in sizes.of.items() if size != 1}


def _broadcast(given: Sequence[Sizes]) -> Sizes:
    """A size above 1 holds whatever the others have; a size of 1 is 1 only where all have that."""
    ranks = [sizes.rank for sizes in given]
    rank = None if None in ranks else max(rank for rank in ranks if rank is not None)
    of = {axis: size for sizes in given for axis, size in _wide(sizes).items()}
    if rank is not None:
        for axis in range(1, rank + 1):
            if axis not in of and all(axis > (s.rank or 0) or s.of.get(axis) == 1 for s in given):
                of[axis] = 1
    return Sizes(rank, of)


def _transposed(sizes: Sizes, order: Sequence[int]) -> Sizes:
    rank = len(order)
    of = {}
    for axis, old in enumerate(order):
        if (size := sizes.of.get(rank - old)) is not None:
            of[rank - axis] = size
    return Sizes(rank, of)


def _unsqueezed(sizes: Sizes, axes: Sequence[int]) -> Sizes | None:
    if sizes.rank is None:
        return None
    shape = sizes.listed() or []
    for axis in sorted(axis % (sizes.rank + len(axes)) for axis in axes):
        shape.insert(axis, 1)
    return _sizes(tuple(shape))
