"""The legacy exporter keeps one of several equal parameters, with an Identity for the others: undone here."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import numpy_helper
from torch import Tensor


def untie(proto: onnx.ModelProto, state: Mapping[str, Tensor]) -> onnx.ModelProto:
    """Gives each merged parameter its own initializer again, unless the model really shares its storage.

    Args:
        proto: the export; changed in place.
        state: the original module's state_dict, which tells equal parameters from shared ones.
    """
    graph = proto.graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        source = node.input[0] if node.op_type == "Identity" else ""
        name = node.output[0] if node.output else ""
        if source not in initializers or name not in state or _shared(state, source, name):
            kept.append(node)
            continue
        own = numpy_helper.from_array(numpy_helper.to_array(initializers[source]), name)
        graph.initializer.append(own)
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)
    return proto


def _shared(state: Mapping[str, Tensor], a: str, b: str) -> bool:
    return a in state and state[a].data_ptr() == state[b].data_ptr()
