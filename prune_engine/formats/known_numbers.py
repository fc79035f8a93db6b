"""Integers and truth values that follow from the constants of a graph: shapes, axes, bounds, conditions."""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto

from prune_engine.formats.graph import NONSENSE, Graph, attribute_value, domain_of, node_name
from prune_engine.formats.operators import Node
from prune_engine.formats.operators.dtypes import FLOATS
from prune_engine.formats.operators.shape_arithmetic import NUMBER, Host, build_host
from prune_engine.formats.tensors import to_numpy

_LONGEST_LIST = 4096  # shapes, axes and bounds are shorter


class KnownNumbers:
    """Grows while the nodes are walked in order of computation."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._found: dict[str, np.ndarray | None] = {}

    def of(self, name: str) -> np.ndarray | None:
        """The values of a short constant that is no float, or of what was computed from such; else None."""
        if name not in self._found:
            tensor = self.graph.constants.get(name)
            short = tensor is not None and math.prod(tensor.dims) <= _LONGEST_LIST
            fits = short and tensor is not None and tensor.data_type not in FLOATS
            self._found[name] = to_numpy(tensor) if fits and tensor is not None else None
        return self._found[name]

    def follow(self, node: NodeProto, shape: tuple[int, ...] | None) -> None:
        """Computes a node whose inputs are all known; `shape` is that of its first input, if it is known."""
        if len(node.output) != 1 or domain_of(node) != "":
            return
        if node.op_type == "Shape" and shape is not None:
            attributes = {a.name: attribute_value(a) for a in node.attribute}
            part = shape[attributes.get("start", 0) : attributes.get("end")]
            self._found[node.output[0]] = np.array(part, np.int64)
            return
        given = [self.of(name) for name in node.input]
        known = [array for array in given if array is not None and array.ndim < 2]
        if not known or len(known) < len(given):
            return
        try:
            self._found[node.output[0]] = self._computed(node, known)
        except NONSENSE:
            return  # the importer says what is wrong with the node

    def _computed(self, proto: NodeProto, given: list[np.ndarray]) -> np.ndarray | None:
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
        result = np.asarray(built[0](*[array.tolist() for array in given]))
        return result.astype(np.int64) if result.size == 0 else result
