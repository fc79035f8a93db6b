"""Operators of ai.onnx.preview that ONNX itself defines by others: FlexAttention is unfolded into those."""

from __future__ import annotations

import onnx
import onnx.inliner

_DOMAIN = "ai.onnx.preview"
_DEFINED = ("FlexAttention",)


def without_previews(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its preview operators replaced by ONNX's definition of them; itself where it has none.

    What ONNX cannot unfold, for want of a type, stays as it is, for the importer to name it.
    """
    if not any(node.domain == _DOMAIN and node.op_type in _DEFINED for node in proto.graph.node):
        return proto
    names = [(_DOMAIN, name) for name in _DEFINED]
    try:
        return onnx.inliner.inline_selected_functions(proto, names, inline_schema_functions=True)
    except (RuntimeError, ValueError):
        return proto
