"""How closely onnxruntime and the trained module can agree, given the number types in the file.

The module computes in float32. onnxruntime rounds the result of every operator to float16 or bfloat16 where
the file says so, and to steps of a quantisation, where a value at the edge of a step falls to either side and
takes the values behind it along: single values may be apart by a few steps, their mean may not.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import NodeProto, TensorProto

from prune_engine.formats.graph import all_graphs, all_nodes

_ROUNDING = ("QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "MatMulNBits")


@dataclass(frozen=True)
class Precision:
    """What the outputs are held to, as shares of the largest output.

    Args:
        largest: difference of any one value.
        mean: difference of all values of an output, on average.
        why: the number type that it follows from.
    """

    largest: float
    mean: float
    why: str = "float32"

    @property
    def rounds(self) -> bool:
        """Whether the file rounds more coarsely than float32 does."""
        return self.largest > FLOAT32.largest


FLOAT32 = Precision(1e-4, 1e-4)
FLOAT16 = Precision(1e-2, 2e-3, "float16 inside")
BFLOAT16 = Precision(5e-2, 1e-2, "bfloat16 inside")
QUANTISED = Precision(5e-2, 2e-3, "rounded to steps of a quantisation inside")


def precision_of(proto: onnx.ModelProto) -> Precision:
    """The coarsest type that the file computes in."""
    nodes = _nodes(proto)
    if any(node.op_type in _ROUNDING or node.op_type.startswith("QLinear") for node in nodes):
        return QUANTISED
    types = {tensor.data_type for graph in all_graphs(proto.graph) for tensor in graph.initializer}
    for node in nodes:
        types |= {a.t.data_type for a in node.attribute if a.HasField("t")}
        types |= {a.i for a in node.attribute if node.op_type == "Cast" and a.name == "to"}
    if TensorProto.BFLOAT16 in types:
        return BFLOAT16
    return FLOAT16 if TensorProto.FLOAT16 in types else FLOAT32


def is_quantised(proto: onnx.ModelProto) -> bool:
    """Whether anything in the file stands for floats by a scale, be it weights alone."""
    known = ("DequantizeLinear", *_ROUNDING)
    return any(node.op_type in known or node.op_type.startswith("QLinear") for node in _nodes(proto))


def _nodes(proto: onnx.ModelProto) -> list[NodeProto]:
    return [*all_nodes(proto.graph.node), *(node for function in proto.functions for node in function.node)]
