"""How the integer constants of a graph are scaled, and which of them can be trained as floats therefore."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from prune_engine.formats.aliases import Alias, Source
from prune_engine.formats.graph import Graph, domain_of
from prune_engine.formats.quantised import Quantisation, quantisation, with_unit
from prune_engine.formats.quantised_places import IntegerPlace
from prune_engine.formats.tensors import to_numpy

_MOVING = (
    *("Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"),
    *("Slice", "Gather", "Split", "Concat"),
)


_BIAS = {"QLinearConv": (8, (1, 4)), "QGemm": (6, (1, 4))}
"""Where an operator has its int32 bias, and the scales of what it multiplies."""


def bias_place(node: NodeProto) -> int | None:
    """The position of the int32 bias of a quantised product, where it has one."""
    place = _BIAS.get(node.op_type, (0, ()))[0]
    return place if 0 < place < len(node.input) and node.input[place] else None


def moves(node: NodeProto) -> bool:
    """Whether a node leaves integers what they are."""
    return node.op_type in _MOVING and domain_of(node) == ""


def is_quantising(node: NodeProto, name: str) -> bool:
    """Whether a node is the operator `name`, ONNX's or onnxruntime's."""
    return node.op_type == name and domain_of(node) in ("", "com.microsoft")


def _is_symmetric(kept: Quantisation, tensor: TensorProto) -> bool:
    """Whether 8-bit integers around 0 leave out -128."""
    if tensor.data_type != TensorProto.INT8 or kept.zero_point.any():
        return False
    return bool(to_numpy(tensor).min(initial=0) > -128)


class Scales:
    """Collects what the nodes say of the integer constants.

    Attributes:
        known: constant -> its quantisation.
        refused: constant -> why it cannot be trained.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.known: dict[str, Quantisation] = {}
        self.refused: dict[str, str] = {}

    def dequantised(self, node: NodeProto, alias: Alias) -> bool:
        """Whether what a DequantizeLinear makes of an alias can be trained."""
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        return self._all(alias, *node.input[1:3], attributes=attributes)

    def operand(self, node: NodeProto, place: IntegerPlace, alias: Alias) -> bool:
        """Whether the integer weight of an operator of quantised arithmetic can be trained."""
        axis = place.output_axis(len(alias.shape))
        scale, zero_point = (place.parameter(node, p) for p in (place.scale, place.zero_point))
        return self._all(alias, scale, zero_point, attributes={"axis": axis})

    def bias(self, node: NodeProto, alias: Alias) -> bool:
        """Whether the int32 bias of a quantised product can be trained: its scale is that of the product."""
        factors = [self.graph.constants.get(node.input[position]) for position in _BIAS[node.op_type][1]]
        if any(factor is None for factor in factors):
            return False
        alpha = next((a.f for a in node.attribute if a.name == "alpha"), 1.0)
        steps = np.array(alpha, np.float32)
        for factor in factors:
            assert factor is not None  # noqa: S101 - looked at above
            steps = steps * to_numpy(factor).astype(np.float32)
        return self._scaled(alias, steps, None, {"axis": len(alias.shape) - 1})

    def table(self, node: NodeProto, alias: Alias) -> bool:
        """Whether a Gather takes rows of an integer table that can be trained: they are scaled afterwards."""
        users = self.graph.consumers.get(node.output[0], [])
        scaled = [
            user
            for user, at in users
            if is_quantising(user, "DequantizeLinear") and at == 0 and len(user.input) > 1
        ]
        if not scaled:
            return False
        if any(self._size(user.input[1]) != 1 for user in scaled):
            self._refuse(alias, "its rows are not scaled by one number")
            return False
        trained = [self._all(alias, *user.input[1:3], attributes={}) for user in scaled]
        return all(trained)

    def _size(self, name: str) -> int | None:
        tensor = self.graph.constants.get(name)
        return None if tensor is None else math.prod(tensor.dims)

    def _refuse(self, alias: Alias, reason: str) -> None:
        self.refused |= {source.name: reason for source in alias.sources}

    def _all(self, alias: Alias, scale: str, zero_point: str = "", *, attributes: Mapping[str, Any]) -> bool:
        constants = self.graph.constants
        if any(name and name not in constants for name in (scale, zero_point)):
            self._refuse(alias, "its scale or zero point is computed in the graph")
            return False
        zeros = to_numpy(constants[zero_point]) if zero_point else None
        steps = to_numpy(constants[scale]) if scale else None
        return self._scaled(alias, steps, zeros, attributes)

    def _scaled(
        self,
        alias: Alias,
        scale: np.ndarray | None,
        zeros: np.ndarray | None,
        attributes: Mapping[str, Any],
    ) -> bool:
        """As `_all`, with the values; without a scale one is chosen."""
        axis, block = (
            value if isinstance(value := attributes.get(name, default), int) else default
            for name, default in (("axis", 1), ("block_size", 0))
        )
        steps = np.ones((), np.float32) if scale is None else scale

        def find(source: Source) -> Quantisation | str:
            tensor = self.graph.constants[source.name]
            seen, own = alias.shape, tuple(tensor.dims)
            found = quantisation(steps, zeros, tensor.data_type, seen, source.axes, own, axis, block)
            if isinstance(found, Quantisation) and scale is None:
                behind = source.axes[axis] if 0 <= axis < len(source.axes) else None
                found = with_unit(found, to_numpy(tensor), behind or 0)
            return found if isinstance(found, str) else replace(found, symmetric=_is_symmetric(found, tensor))

        trained = [self._one(source, find) for source in alias.sources]
        return all(trained)

    def _one(self, source: Source, find: Callable[[Source], Quantisation | str]) -> bool:
        """Notes the quantisation of a constant; whether it can be trained as far as is known by now."""
        name = source.name
        found, known = find(source), self.known.get(name)
        if isinstance(found, str):
            self.refused[name] = found
        elif known is not None and not known.equals(found):
            self.refused[name] = "it is used with different scales"
        else:
            self.known[name] = found
        return name not in self.refused
