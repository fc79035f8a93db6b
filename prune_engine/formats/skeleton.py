"""A model without the values of its large tensors: what is left when those lie in files of their own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx
from google.protobuf.message import Message
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, numpy_helper

from prune_engine.formats.tensors import element_bits


@dataclass(frozen=True)
class Place:
    """Where a tensor's values lie: `length` bytes from `offset` of the file `location`."""

    location: str
    offset: int
    length: int


_HOLLOW = Place("", 0, 0)  # known by its identity


def tensor_bytes(tensor: TensorProto) -> int:
    """Bytes of a tensor's values by its shape and type, 0 for strings."""
    bits: int = math.prod(tensor.dims) * (element_bits(tensor.data_type) or 0)
    return (bits + 7) // 8


def payload(tensor: TensorProto) -> bytes:
    """A tensor's values as ONNX's raw bytes: little-endian, row by row."""
    if tensor.HasField("raw_data"):
        raw: bytes = tensor.raw_data
        return raw
    inside = numpy_helper.from_array(numpy_helper.to_array(tensor))
    return bytes(inside.raw_data)


def each_tensor(proto: onnx.ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Every tensor of a model, subgraphs and functions included, under a key that says where it is.

    The key of an initializer of the main graph is its name; two models of the same structure have the same
    keys.
    """
    yield from _in_graph(proto.graph, "")
    for place, function in enumerate(proto.functions):
        yield from _in_nodes(function.node, f"function {place}/")


def _in_graph(graph: GraphProto, prefix: str) -> Iterator[tuple[str, TensorProto]]:
    for tensor in graph.initializer:
        yield prefix + tensor.name, tensor
    for sparse in graph.sparse_initializer:
        yield f"{prefix}{sparse.values.name}/values", sparse.values
        yield f"{prefix}{sparse.values.name}/indices", sparse.indices
    yield from _in_nodes(graph.node, prefix)


def _in_nodes(nodes: Iterable[NodeProto], prefix: str) -> Iterator[tuple[str, TensorProto]]:
    for index, node in enumerate(nodes):
        for attribute in node.attribute:
            where = f"{prefix}node {index}/{attribute.name}"
            if attribute.HasField("t"):
                yield where, attribute.t
            if attribute.HasField("sparse_tensor"):
                yield f"{where}/values", attribute.sparse_tensor.values
                yield f"{where}/indices", attribute.sparse_tensor.indices
            for place, tensor in enumerate(attribute.tensors):
                yield f"{where} {place}", tensor
            if attribute.HasField("g"):
                yield from _in_graph(attribute.g, f"{where}/")
            for place, body in enumerate(attribute.graphs):
                yield from _in_graph(body, f"{where} {place}/")


def skeleton(proto: onnx.ModelProto, places: Mapping[str, Place]) -> onnx.ModelProto:
    """A copy of the model in which the tensors of `places` say where their values lie and hold none."""
    bones = onnx.ModelProto()
    _copy_fields(proto, bones, {"graph", "functions"})
    bones.graph.SetInParent()
    _copy_graph(proto.graph, bones.graph, "", places)
    for place, function in enumerate(proto.functions):
        copy = bones.functions.add()
        _copy_fields(function, copy, {"node"})
        for index, node in enumerate(function.node):
            _copy_node(node, copy.node.add(), f"function {place}/node {index}/", places)
    return bones


def hollow(proto: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy in which the named initializers have raw values of no bytes, to be filled in.

    A message keeps the memory of values that are overwritten for as long as it lives.
    """
    return skeleton(proto, dict.fromkeys(names, _HOLLOW))


def _copy_fields(source: Message, target: Message, left_out: set[str]) -> None:
    """Copies all that is set in a message but some of its fields."""
    for field, value in source.ListFields():
        if field.name in left_out:
            continue
        if field.is_repeated:
            getattr(target, field.name).MergeFrom(value)
        elif field.message_type is not None:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)


def _copy_graph(source: GraphProto, target: GraphProto, prefix: str, places: Mapping[str, Place]) -> None:
    _copy_fields(source, target, {"node", "initializer"})
    for tensor in source.initializer:
        _copy_tensor(tensor, target.initializer.add(), places.get(prefix + tensor.name))
    for index, node in enumerate(source.node):
        _copy_node(node, target.node.add(), f"{prefix}node {index}/", places)


def _copy_node(source: NodeProto, target: NodeProto, prefix: str, places: Mapping[str, Place]) -> None:
    if not any(a.HasField("t") or a.HasField("g") or a.tensors or a.graphs for a in source.attribute):
        target.CopyFrom(source)
        return
    _copy_fields(source, target, {"attribute"})
    for attribute in source.attribute:
        _copy_attribute(attribute, target.attribute.add(), prefix + attribute.name, places)


def _copy_attribute(
    source: AttributeProto, target: AttributeProto, where: str, places: Mapping[str, Place]
) -> None:
    _copy_fields(source, target, {"t", "g", "tensors", "graphs"})
    if source.HasField("t"):
        target.t.SetInParent()
        _copy_tensor(source.t, target.t, places.get(where))
    if source.HasField("g"):
        target.g.SetInParent()
        _copy_graph(source.g, target.g, f"{where}/", places)
    for index, tensor in enumerate(source.tensors):
        _copy_tensor(tensor, target.tensors.add(), places.get(f"{where} {index}"))
    for index, body in enumerate(source.graphs):
        _copy_graph(body, target.graphs.add(), f"{where} {index}/", places)


def _copy_tensor(source: TensorProto, target: TensorProto, place: Place | None) -> None:
    if place is None:
        target.CopyFrom(source)
        return
    target.name, target.data_type = source.name, source.data_type
    if source.HasField("doc_string"):
        target.doc_string = source.doc_string
    target.dims.extend(source.dims)
    target.metadata_props.MergeFrom(source.metadata_props)
    if place is _HOLLOW:
        target.raw_data = b""
        return
    target.data_location = TensorProto.EXTERNAL
    for key, value in (("location", place.location), ("offset", place.offset), ("length", place.length)):
        target.external_data.add(key=key, value=str(value))
