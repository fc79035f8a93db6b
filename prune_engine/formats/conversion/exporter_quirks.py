"""What torch's newer exporter writes otherwise than ONNX runtimes and readers like it, put right.

`torch.onnx.export(program, dynamo=True, optimize=False)` keeps every parameter and BatchNorm, but leaves
things that its optimiser, which would fold those, removes.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from prune_engine.formats.conversion.sequences import (
    attribute,
    declared_sizes,
    known_integers,
    without_sequences,
)


def put_right(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Fixed sizes as numbers, and no sequences where none are needed; changes the model in place."""
    _sizes_as_numbers(proto)
    _known_sizes(proto)
    return without_sequences(proto)


def _sizes_as_numbers(proto: onnx.ModelProto) -> None:
    """A size that the exporter's solver has fixed is written as a free one with the name "4"."""
    graph = proto.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param.isdigit():
                dim.dim_value = int(dim.dim_param)


def _known_sizes(proto: onnx.ModelProto) -> None:
    """Fixed sizes that are asked for at run time, such as those that cut an LSTM's weights, as Constants.

    Only then is it plain that what comes out of the Slice is a weight.
    """
    graph = proto.graph
    shapes, known = declared_sizes(graph), known_integers(graph)
    for node in graph.node:
        found = None
        if node.op_type == "Shape" and node.input[0] in shapes:
            shape = shapes[node.input[0]]
            sizes = shape[attribute(node, "start", 0) : attribute(node, "end", len(shape))]
            if sizes and None not in sizes:
                found = np.array(sizes, np.int64)
        elif node.op_type == "Mul" and all(name in known for name in node.input):
            found = np.asarray(known[node.input[0]] * known[node.input[1]], np.int64)
        if found is not None:
            known[node.output[0]] = found
            value = numpy_helper.from_array(found)
            node.CopyFrom(helper.make_node("Constant", [], [node.output[0]], name=node.name, value=value))
