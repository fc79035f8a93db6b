"""Integers and truth values that follow from the constants of a graph: shapes, axes, bounds, conditions.

Of a list, only a part may be known: that of a shape whose batch is open. The rest is None, and only operators
that move numbers look at such lists.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto

from prune_engine.formats.graph import NONSENSE, Graph, attribute_value, domain_of, node_name
from prune_engine.formats.known_sizes import KnownSizes
from prune_engine.formats.operators import Node
from prune_engine.formats.operators.dtypes import FLOATS
from prune_engine.formats.operators.shape_arithmetic import NUMBER, Host, build_host
from prune_engine.formats.tensors import to_numpy

_LONGEST_LIST = 4096  # shapes, axes and bounds are shorter
_MOVING = ("Slice", "Gather", "Squeeze", "Unsqueeze", "Reshape", "Concat", "Identity")


class KnownNumbers:
    """Grows while the nodes are walked in order of computation."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.sizes = KnownSizes(graph)
        self._found: dict[str, np.ndarray | None] = {}

    def of(self, name: str) -> np.ndarray | None:
        """The values of a short constant that is no float, or of what was computed from such; else None."""
        found = self._part(name)
        return None if found is None or found.dtype == object else found

    def _part(self, name: str) -> np.ndarray | None:
        """The same, also where only some of the numbers are known."""
        if name not in self._found:
            tensor = self.graph.constants.get(name)
            short = tensor is not None and math.prod(tensor.dims) <= _LONGEST_LIST
            fits = short and tensor is not None and tensor.data_type not in FLOATS
            self._found[name] = to_numpy(tensor) if fits and tensor is not None else None
        return self._found[name]

    def follow(self, node: NodeProto, shape: tuple[int, ...] | None) -> None:
        """Computes a node whose inputs are all known; `shape` is that of its first input, if it is known."""
        self.sizes.follow(node, self.of, self._part)
        if len(node.output) != 1 or domain_of(node) != "":
            return
        if node.op_type == "Shape":
            whole = shape if shape is not None else self.sizes.of(node.input[0]).listed()
            if whole is not None:
                attributes = {a.name: attribute_value(a) for a in node.attribute}
                part = whole[attributes.get("start", 0) : attributes.get("end")]
                self._found[node.output[0]] = np.array(part, object if None in part else np.int64)
            return
        given = [self._part(name) for name in node.input]
        known = [array for array in given if array is not None and array.ndim < 2]
        if not known or len(known) < len(given):
            return
        if node.op_type not in _MOVING and any(array.dtype == object for array in known):
            return
        if node.op_type == "ConstantOfShape" and math.prod(known[0].tolist()) > _LONGEST_LIST:
            return
        try:
            found = self._computed(node, known)
        except NONSENSE:
            return  # the importer says what is wrong with the node
        if found is None or found.size <= _LONGEST_LIST:  # lists that grow are no shapes
            self._found[node.output[0]] = found

    def _computed(self, proto: NodeProto, given: list[np.ndarray]) -> np.ndarray | None:
        if proto.op_type == "Range":
            return _counted(*(int(array.reshape(())) for array in given))
        node = Node(
            name=node_name(proto),
            domain="",
            operator=proto.op_type,
            opset=self.graph.opset(proto),
            inputs=tuple(proto.input),
            outputs=tuple(proto.output),
            attributes={a.name: attribute_value(a) for a in proto.attribute},
            constants=dict(enumerate(given)),
        )
        forms = [NUMBER if array.ndim == 0 else Host(array.size) for array in given]
        built = build_host(node, forms)
        if built is None:
            return None
        result = built[0](*[array.tolist() for array in given])
        if result is None or (isinstance(result, list) and None in result):
            return np.array(result, object)
        found = np.asarray(result)
        return found.astype(np.int64) if found.size == 0 else found


def _counted(start: int, limit: int, step: int) -> np.ndarray | None:
    numbers = range(start, limit, step)
    return np.array(numbers, np.int64) if len(numbers) <= _LONGEST_LIST else None
