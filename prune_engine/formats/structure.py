"""What differs between two models beside the values of their constants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx
from google.protobuf.message import Message
from onnx import TensorProto

from prune_engine.formats.graph import node_name
from prune_engine.formats.scopes import bodies_of
from prune_engine.formats.write_back import PROPERTIES

_PAYLOAD = ("raw_data", "float_data", "double_data", "int32_data", "int64_data", "uint64_data", "string_data")
_SHOWN = 20


def structural_differences(a: onnx.ModelProto, b: onnx.ModelProto) -> list[str]:
    """One sentence per difference in nodes, names, attributes, opset, IR, inputs, outputs or metadata.

    Empty when at most the values of initializers and Constant nodes differ, those in the bodies of If, Loop
    and Scan included, and the `metadata_props` that Prunery writes. At most 20 sentences.
    """
    found: list[str] = []
    for field in ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string"):
        if getattr(a, field) != getattr(b, field):
            found.append(f"{field}: {getattr(a, field)!r} became {getattr(b, field)!r}")
    found += _compare("opset_import", a.opset_import, b.opset_import)
    found += _compare("metadata_props", _foreign(a), _foreign(b))
    found += _compare("functions", a.functions, b.functions)
    found += _compare("training_info", a.training_info, b.training_info)
    return (found + _graphs(a.graph, b.graph, "graph"))[:_SHOWN]


def _foreign(proto: onnx.ModelProto) -> list[Message]:
    """The metadata that Prunery does not write."""
    return [entry for entry in proto.metadata_props if entry.key not in PROPERTIES]


def _graphs(left: onnx.GraphProto, right: onnx.GraphProto, where: str) -> list[str]:
    found: list[str] = []
    for field in ("name", "doc_string"):
        if getattr(left, field) != getattr(right, field):
            found.append(f"{where} {field}: {getattr(left, field)!r} became {getattr(right, field)!r}")
    for field in (
        "input",
        "output",
        "value_info",
        "sparse_initializer",
        "quantization_annotation",
        "metadata_props",
    ):
        found += _compare(f"{where} {field}", getattr(left, field), getattr(right, field))
    prefix = "" if where == "graph" else f"{where}: "
    found += [prefix + difference for difference in _initializers(left, right)]
    return found + [prefix + difference for difference in _nodes(left, right)]


def _compare(what: str, a: Sequence[Message], b: Sequence[Message]) -> list[str]:
    if len(a) != len(b):
        return [f"{what}: {len(a)} entries became {len(b)}"]
    return [f"{what} {i} differs" for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]


def _nodes(a: onnx.GraphProto, b: onnx.GraphProto) -> list[str]:
    if len(a.node) != len(b.node):
        return [f"{len(a.node)} nodes became {len(b.node)}"]
    found: list[str] = []
    for index, (x, y) in enumerate(zip(a.node, b.node, strict=True)):
        if any(bodies_of(x)):
            found += _with_bodies(index, x, y)
        elif x != y and not _same_but_for_values(x, y):
            found.append(f"node {index} ({node_name(x)}) differs")
    return found


def _with_bodies(index: int, a: onnx.NodeProto, b: onnx.NodeProto) -> list[str]:
    """The differences of two nodes that hold graphs: of the nodes themselves, then of what is inside."""
    bare = []
    for node in (a, b):
        copy = onnx.NodeProto(op_type=node.op_type, domain=node.domain, overload=node.overload)
        copy.name, copy.doc_string = node.name, node.doc_string
        copy.input.extend(node.input)
        copy.output.extend(node.output)
        copy.metadata_props.extend(node.metadata_props)
        copy.attribute.extend(attribute for attribute in node.attribute if not attribute.HasField("g"))
        bare.append(copy)
    inside = {attribute.name: attribute.g for attribute in bodies_of(b)}
    if bare[0] != bare[1] or [attribute.name for attribute in bodies_of(a)] != list(inside):
        return [f"node {index} ({node_name(a)}) differs"]
    found: list[str] = []
    for attribute in bodies_of(a):
        found += _graphs(attribute.g, inside[attribute.name], f"{node_name(a)} {attribute.name}")
    return found


def _same_but_for_values(a: onnx.NodeProto, b: onnx.NodeProto) -> bool:
    """Whether two Constant nodes differ at most in the values of their tensor."""
    if a.op_type != "Constant" or b.op_type != "Constant":
        return False
    blank = []
    for node in (a, b):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for attribute in copy.attribute:
            for field in _PAYLOAD:
                attribute.t.ClearField(field) if attribute.HasField("t") else None
            attribute.floats[:] = [0.0] * len(attribute.floats)
            attribute.ClearField("f")
        blank.append(copy)
    return bool(blank[0] == blank[1])


def _initializers(a: onnx.GraphProto, b: onnx.GraphProto) -> Iterable[str]:
    if len(a.initializer) != len(b.initializer):
        return [f"{len(a.initializer)} initializers became {len(b.initializer)}"]
    return [
        f"initializer {x.name!r}: its name, type, shape or storage differs"
        for x, y in zip(a.initializer, b.initializer, strict=True)
        if _description(x) != _description(y)
    ]


def _description(tensor: TensorProto) -> tuple[object, ...]:
    stored = tuple(field for field in _PAYLOAD if tensor.HasField("raw_data") == (field == "raw_data"))
    where = (tensor.data_location, len(tensor.external_data))
    return (tensor.name, tensor.data_type, tuple(tensor.dims), tensor.doc_string, stored, where)
