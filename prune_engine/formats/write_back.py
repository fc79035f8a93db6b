"""Pruned values back into the user's own graph: only values of constants change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

from prune_engine.formats.graph import constant_tensor
from prune_engine.formats.reading import read_graph
from prune_engine.formats.tensors import set_values


def write_back(proto: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """A copy of `proto` in which the named constants have the given values.

    Each value has the shape and dtype of its constant (`OnnxModule.state_values` gives them so). Values that
    are equal leave their bytes as they are; nodes, names, opset, types and metadata are never touched.

    Raises:
        ValueError: a name that the graph does not have, another shape or another dtype.
    """
    written = onnx.ModelProto()
    written.CopyFrom(proto)
    tensors = {tensor.name: tensor for tensor in written.graph.initializer}
    nodes = {node.output[0]: node for node in written.graph.node if constant_tensor(node) is not None}
    for name, value in values.items():
        if name in tensors:
            set_values(tensors[name], value)
        elif name in nodes:
            _set_constant(nodes[name], value)
        else:
            raise ValueError(f"the graph has no initializer and no Constant named {name!r}")
    return written


def read_values(proto: onnx.ModelProto, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The named constants' values, wherever the graph keeps them: initializers or Constant nodes.

    Raises:
        KeyError: the graph has no constant of that name.
    """
    constants = read_graph(proto).constants
    return {name: numpy_helper.to_array(constants[name]) for name in names}


def _set_constant(node: NodeProto, value: np.ndarray) -> None:
    attribute = node.attribute[0]
    if attribute.name == "value":
        set_values(attribute.t, value)
    elif attribute.name == "value_floats" and value.shape == (len(attribute.floats),):
        del attribute.floats[:]
        attribute.floats.extend(value.tolist())
    else:
        raise ValueError(
            f"the Constant {node.output[0]!r} does not hold a float tensor of shape {value.shape}"
        )
