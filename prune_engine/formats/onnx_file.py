"""Reading an ONNX file that a stranger sent: parsed from memory, checked before anything is built from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, TensorProto

from prune_engine.errors import ModelError, ModelFormatError, UnsupportedOperatorError
from prune_engine.formats import storage
from prune_engine.formats.counts import check_counts
from prune_engine.formats.extents import check_extents
from prune_engine.formats.graph import node_name
from prune_engine.formats.importer import import_onnx
from prune_engine.formats.message import check_message
from prune_engine.formats.reading import read_graph
from prune_engine.formats.support import check_opset
from prune_engine.formats.tensors import check_tensor

_LARGEST = 2**31 - 1  # bytes that one protobuf message may have
_GRAPH_FIELD = 7
_NEWEST_IR = 13  # onnxruntime refuses newer ones


def parse_onnx(data: bytes) -> onnx.ModelProto:
    """The model in `data`, complete and checked.

    Raises:
        ModelFormatError: no ONNX file.
        ExternalDataError: weights in other files; none of them is ever opened.
        ModelError: cut off, damaged, or refused by onnx's checker.
    """
    proto = decode(data)
    check_model(proto)
    return proto


def decode(data: bytes) -> onnx.ModelProto:
    """The model in `data`, of which only that it has a graph is known. Raises what `parse_onnx` raises."""
    if len(data) > _LARGEST:
        raise ModelError(
            "The ONNX file is larger than 2 GiB, which one protobuf message cannot be. Save it with its "
            "weights "
            "in a data file (onnx.save(model, path, save_as_external_data=True)) and send both in a .zip."
        )
    check_message(data)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise _unreadable(data) from error
    if not proto.HasField("graph"):
        raise ModelFormatError(
            "The model file is no ONNX file: it has no graph. TensorFlow's .pb files look like this; "
            "convert them "
            "with tf2onnx, or send an ONNX file or a TorchScript archive."
        )
    if not proto.graph.node:
        raise ModelError("The ONNX file has a graph without a single node: there is nothing to prune in it.")
    return proto


def check_model(proto: onnx.ModelProto) -> None:
    """Everything that can be known to be wrong without running the model. Raises what `parse_onnx` raises."""
    try:
        _check(proto)
    except UnicodeDecodeError as error:
        raise ModelError(
            "A name in the ONNX file is not text. The file is damaged; send it again."
        ) from error


def _check(proto: onnx.ModelProto) -> None:
    for where, tensor in _tensors(proto.graph):
        check_tensor(tensor, where)
    for function in proto.functions:
        for where, tensor in _tensors_of(function.attribute_proto, f"the function {function.name!r}"):
            check_tensor(tensor, where)
        for node in function.node:
            for where, tensor in _attribute_tensors(node):
                check_tensor(tensor, where)
    for training in proto.training_info:
        for graph in (training.initialization, training.algorithm):
            for where, tensor in _tensors(graph):
                check_tensor(tensor, where)
    if proto.ir_version > _NEWEST_IR:
        raise ModelError(
            f"The file is of IR version {proto.ir_version}; onnxruntime reads up to {_NEWEST_IR}. "
            f"Set model.ir_version = {_NEWEST_IR} and save it again."
        )
    check_counts(proto)
    graph = read_graph(proto)
    check_opset(graph)
    check_extents(graph)
    for kind, values in (("input", proto.graph.input), ("output", proto.graph.output)):
        for value in values:
            if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"):
                raise ModelError(
                    f"The graph {kind} {value.name!r} declares no shape, so nobody knows how many dimensions "
                    "it has. Declare them (onnx.tools.update_model_dims), open ones by a name."
                )
    try:
        storage.check(proto)
    except UnicodeDecodeError:
        raise
    except (onnx.checker.ValidationError, ValueError) as error:
        _refuse_unsupported(proto)
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"onnx's checker refuses the file: {reason} Export it again.") from error


def _refuse_unsupported(proto: onnx.ModelProto) -> None:
    """Raises UnsupportedOperatorError where the checker refuses operators that ONNX does not know."""
    try:
        import_onnx(proto)
    except UnsupportedOperatorError:
        raise
    except ModelError:
        return  # the checker has said it better


def _tensors(graph: GraphProto) -> Iterator[tuple[str, TensorProto]]:
    """Every tensor of a graph and its subgraphs, with words for where it is."""
    for tensor in graph.initializer:
        yield f"The initializer {tensor.name!r}", tensor
    for sparse in graph.sparse_initializer:
        yield f"The sparse initializer {sparse.values.name!r}", sparse.values
        yield f"The sparse initializer {sparse.values.name!r} (indices)", sparse.indices
    for node in graph.node:
        yield from _attribute_tensors(node)


def _attribute_tensors(node: onnx.NodeProto) -> Iterator[tuple[str, TensorProto]]:
    return _tensors_of(node.attribute, node_name(node))


def _tensors_of(attributes: Iterable[AttributeProto], owner: str) -> Iterator[tuple[str, TensorProto]]:
    for attribute in attributes:
        where = f"The attribute {attribute.name!r} of {owner}"
        if attribute.HasField("t"):
            yield where, attribute.t
        if attribute.HasField("sparse_tensor"):
            yield where, attribute.sparse_tensor.values
            yield where, attribute.sparse_tensor.indices
        for tensor in attribute.tensors:
            yield where, tensor
        if attribute.HasField("g"):
            yield from _tensors(attribute.g)
        for body in attribute.graphs:
            yield from _tensors(body)


def _unreadable(data: bytes) -> ModelError:
    """Tells a cut-off ONNX file from something that never was one."""
    position, first = 0, True
    while position < len(data):
        key, position = _varint(data, position)
        field, wire = key >> 3, key & 7
        if first and (field, wire) != (1, 0):
            break  # an ONNX file begins with its IR version
        first = False
        if wire == 0:
            _, position = _varint(data, position)
        elif wire == 2:
            length, position = _varint(data, position)
            if field <= 26 and length > len(data) - position:
                part = "graph" if field == _GRAPH_FIELD else f"field {field}"
                return ModelError(
                    f"The ONNX file is cut off: its {part} should have {length} bytes, and "
                    f"{len(data) - position} are "
                    "there. Send it again."
                )
            position += length
        else:
            break
    if first:
        return ModelFormatError(
            "The model file is neither ONNX nor TorchScript nor torch.export, nor anything else that "
            "Prunery knows. "
            "Send an ONNX file or a TorchScript archive."
        )
    return ModelError("The ONNX file is damaged: it cannot be decoded. Send it again.")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            break
    return value, position
