"""Local functions of a model: which there are, and the attributes of a call inside the function's nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import AttributeProto, FunctionProto, NodeProto

Key = tuple[str, str, str]  # domain, name, overload
Attributes = Mapping[str, AttributeProto]


@dataclass(frozen=True)
class Call:
    """A function at the place where it is called: the values of its attributes and its own opsets."""

    key: Key
    name: str
    attributes: Attributes
    opsets: Mapping[str, int]


def functions_of(proto: onnx.ModelProto) -> dict[Key, FunctionProto]:
    """The local functions by what calls them."""
    return {("" if f.domain == "ai.onnx" else f.domain, f.name, f.overload): f for f in proto.functions}


def call_key(node: NodeProto) -> Key:
    """What a node calls, if it calls a function."""
    return "" if node.domain == "ai.onnx" else node.domain, node.op_type, node.overload


def call_attributes(function: FunctionProto, node: NodeProto) -> dict[str, AttributeProto]:
    """The attributes of a call: what the node says over what the function has as defaults."""
    attributes = {attribute.name: attribute for attribute in function.attribute_proto}
    attributes.update({attribute.name: attribute for attribute in node.attribute})
    return attributes


def with_attributes(node: NodeProto, attributes: Attributes) -> NodeProto:
    """The node with its references to the function's attributes resolved; what a call omits is absent."""
    if not any(attribute.ref_attr_name for attribute in node.attribute):
        return node
    resolved = NodeProto()
    resolved.CopyFrom(node)
    del resolved.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            resolved.attribute.append(attribute)
        elif attribute.ref_attr_name in attributes:
            resolved.attribute.append(attributes[attribute.ref_attr_name])
            resolved.attribute[-1].name = attribute.name
            resolved.attribute[-1].ref_attr_name = ""
    return resolved
