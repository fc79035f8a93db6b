"""How closely onnxruntime and the trained module can agree, given the number types in the file.

The module computes in float32. onnxruntime rounds the result of every operator to float16 or bfloat16 where
the file says so, and to steps of a quantisation, where a value at the edge of a step falls to either side and
takes the values behind it along.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import GraphProto, TensorProto

_ROUNDING = ("QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "MatMulNBits")


@dataclass(frozen=True)
class Precision:
    """What the outputs are held to.

    Args:
        limit: largest relative difference.
        average: whether the mean difference counts and not the largest.
        why: the number type that it follows from.
    """

    limit: float
    average: bool = False
    why: str = "float32"

    def difference(self, ours: np.ndarray, theirs: np.ndarray) -> float:
        """The difference over the largest magnitude of `theirs`; infinite for other shapes."""
        if ours.shape != theirs.shape:
            return float("inf")
        apart = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
        scale = float(np.abs(theirs.astype(np.float64)).max(initial=0.0)) or 1.0
        if not self.average:
            return float(apart.max(initial=0.0)) / scale
        return float(apart.mean()) / scale if apart.size else 0.0


FLOAT32 = Precision(1e-4)
FLOAT16 = Precision(1e-2, why="float16 inside")
BFLOAT16 = Precision(5e-2, why="bfloat16 inside")
QUANTISED = Precision(1e-2, average=True, why="rounded to steps of a quantisation inside, mean difference")


def precision_of(proto: onnx.ModelProto) -> Precision:
    """The coarsest type that the file computes in."""
    graphs = list(_graphs(proto.graph))
    nodes = [node for graph in graphs for node in graph.node]
    nodes += [node for function in proto.functions for node in function.node]
    if any(node.op_type in _ROUNDING or node.op_type.startswith("QLinear") for node in nodes):
        return QUANTISED
    types = {tensor.data_type for graph in graphs for tensor in graph.initializer}
    for node in nodes:
        types |= {a.t.data_type for a in node.attribute if a.HasField("t")}
        types |= {a.i for a in node.attribute if node.op_type == "Cast" and a.name == "to"}
    if TensorProto.BFLOAT16 in types:
        return BFLOAT16
    return FLOAT16 if TensorProto.FLOAT16 in types else FLOAT32


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and the bodies in it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            bodies: Sequence[GraphProto] = [attribute.g] if attribute.HasField("g") else attribute.graphs
            for body in bodies:
                yield from _graphs(body)
