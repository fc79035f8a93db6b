"""What torch's newer exporter writes otherwise than ONNX runtimes and readers like it, put right.

`torch.onnx.export(program, dynamo=True, optimize=False)` keeps every parameter and BatchNorm, but leaves two
things that its optimiser, which folds both, would have removed.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from prune_engine.formats.graph import constant_tensor


def put_right(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Fixed sizes as numbers, and sequences that are only taken apart as Split; changes the model in place."""
    _sizes_as_numbers(proto)
    _split_instead_of_sequences(proto)
    return proto


def _sizes_as_numbers(proto: onnx.ModelProto) -> None:
    """A size that the exporter's solver has fixed is written as a free one with the name "4"."""
    graph = proto.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param.isdigit():
                dim.dim_value = int(dim.dim_param)


def _split_instead_of_sequences(proto: onnx.ModelProto) -> None:
    """`SplitToSequence` whose parts are taken out by number becomes `Split`."""
    graph = proto.graph
    constants = _integers(graph)
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    shapes = {
        value.name: [
            d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim
        ]
        for value in (*graph.input, *graph.value_info)
    }
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        if node.op_type != "SplitToSequence" or node.output[0] in outputs:
            continue
        lengths = _lengths(node, constants, shapes)
        users = readers[node.output[0]]
        if lengths is None or not all(_takes_one(user, constants, len(lengths)) for user in users):
            continue
        parts = [f"{node.output[0]}_part_{index}" for index in range(len(lengths))]
        said = f"{node.output[0]}_lengths"
        for user in users:
            part = parts[int(constants[user.input[1]])]
            user.CopyFrom(helper.make_node("Identity", [part], [user.output[0]], name=user.name))
        graph.initializer.append(numpy_helper.from_array(np.array(lengths, np.int64), said))
        node.CopyFrom(
            helper.make_node(
                "Split", [node.input[0], said], parts, name=node.name, axis=_attribute(node, "axis", 0)
            )
        )


def _takes_one(node: NodeProto, constants: dict[str, np.ndarray], count: int) -> bool:
    if node.op_type != "SequenceAt" or node.input[1] not in constants:
        return False
    place = constants[node.input[1]]
    return place.size == 1 and -count <= int(place) < count


def _lengths(
    node: NodeProto, constants: dict[str, np.ndarray], shapes: dict[str, list[int | None]]
) -> list[int] | None:
    """The lengths of the parts; None where they are not known, or the split axis is dropped."""
    if len(node.input) < 2 or not node.input[1] or node.input[1] not in constants:
        return None
    given = constants[node.input[1]]
    if given.ndim == 1:
        return [int(length) for length in given]
    axis, shape = _attribute(node, "axis", 0), shapes.get(node.input[0], [])
    whole = shape[axis] if -len(shape) <= axis < len(shape) else None
    if whole is None or int(given) < 1:
        return None
    full, rest = divmod(whole, int(given))
    return [int(given)] * full + ([rest] if rest else [])


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)


def _integers(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """The whole numbers that Constant nodes and small initializers hold."""
    tensors = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.INT64}
    for node in graph.node:
        held = constant_tensor(node)
        if held is not None and held.data_type == TensorProto.INT64:
            tensors[node.output[0]] = held
    return {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items() if len(tensor.dims) <= 1}
