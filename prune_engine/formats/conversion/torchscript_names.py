"""The TorchScript-based exporter loses names of parameters: found again here.

Of several equal parameters it keeps one, with an Identity for the others; and what a scripted recurrent layer
holds in a list becomes constants.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper
from torch import Tensor

from prune_engine.formats.graph import constant_tensor


def with_names(proto: onnx.ModelProto, state: Mapping[str, Tensor]) -> onnx.ModelProto:
    """The export with every parameter as an initializer of its own name; changed in place.

    Args:
        state: the original module's state_dict.
    """
    return name_constants(untie(proto, state), state)


def name_constants(proto: onnx.ModelProto, state: Mapping[str, Tensor]) -> onnx.ModelProto:
    """Makes initializers of Constants that hold a parameter's values, under the parameter's name."""
    graph = proto.graph
    there = {tensor.name for tensor in graph.initializer}
    missing: dict[tuple[tuple[int, ...], bytes], list[str]] = {}
    for name, tensor in state.items():
        if name not in there and tensor.is_floating_point() and tensor.dim():
            missing.setdefault(_fingerprint(tensor.detach().numpy()), []).append(name)
    kept, renamed = [], {}
    for node in graph.node:
        held = constant_tensor(node)
        values = None if held is None else numpy_helper.to_array(held)
        names = None if values is None else missing.get(_fingerprint(values))
        if values is None or not names:
            kept.append(node)
            continue
        name = names.pop(0)
        graph.initializer.append(numpy_helper.from_array(values, name))
        renamed[node.output[0]] = name
    if renamed:
        del graph.node[:]
        graph.node.extend(kept)
        for node in graph.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]
    return proto


def _fingerprint(values: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return values.shape, hashlib.sha256(np.ascontiguousarray(values).tobytes()).digest()


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
