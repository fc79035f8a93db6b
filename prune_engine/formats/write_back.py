"""Pruned values back into the user's own graph: only values of constants change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper

from prune_engine.formats.graph import constant_tensor
from prune_engine.formats.quantised import QUANTISED_TYPES
from prune_engine.formats.reading import read_graph
from prune_engine.formats.scopes import name_scopes, stored_constants
from prune_engine.formats.skeleton import hollow, tensor_bytes
from prune_engine.formats.tensors import set_values
from prune_engine.formats.weights import find_roles

DENSITY, VERSION, JOB = "prunery.density", "prunery.version", "prunery.job"
PROPERTIES = (DENSITY, VERSION, JOB)
"""The only `metadata_props` that Prunery writes."""

_LARGE = 1 << 20  # bytes


def write_back(
    proto: onnx.ModelProto, values: Mapping[str, np.ndarray], properties: Mapping[str, str] | None = None
) -> onnx.ModelProto:
    """A copy of `proto` in which the named constants have the given values.

    Each value has the shape and dtype of its constant (`OnnxModule.state_values` gives them so). Values that
    are equal leave their bytes as they are; nodes, names, opset and types are never touched.

    Args:
        values: by the constants' names in `OnnxModule`, which are unique in bodies of If, Loop and Scan too.
        properties: `metadata_props` to set, of those in `PROPERTIES`.

    Raises:
        ValueError: a name that the graph does not have, another shape or another dtype; another property.
    """
    written = _copy(proto, _filled_anew(proto, values))
    stored = dict(stored_constants(name_scopes(written.graph)[0]))
    for name, value in values.items():
        holder = stored.get(name)
        if holder is None:
            raise ValueError(f"the graph has no initializer and no Constant named {name!r}")
        if isinstance(holder, TensorProto):
            set_values(holder, value)
        else:
            _set_constant(holder, value)
    for key, text in (properties or {}).items():
        _set_property(written, key, text)
    return written


def _copy(proto: onnx.ModelProto, emptied: list[str]) -> onnx.ModelProto:
    """A copy without the values of some initializers; field by field only where that spares memory."""
    if emptied:
        return hollow(proto, emptied)
    written = onnx.ModelProto()
    written.CopyFrom(proto)
    return written


def _filled_anew(proto: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> list[str]:
    """Large initializers that get raw values of their type and shape: the old ones are not copied."""
    return [
        tensor.name
        for tensor in proto.graph.initializer
        if tensor.name in values
        and tensor_bytes(tensor) == values[tensor.name].nbytes > _LARGE
        and tensor.HasField("raw_data")
    ]


def read_values(
    proto: onnx.ModelProto, names: Iterable[str], as_stored: bool = False
) -> dict[str, np.ndarray]:
    """The named constants' values, wherever the graph keeps them: initializers or Constant nodes.

    Quantised weights come as the floats that they stand for, unless they are wanted `as_stored`.

    Raises:
        KeyError: the graph has no constant of that name.
    """
    stored = dict(stored_constants(name_scopes(proto.graph)[0]))
    tensors = {name: _tensor(stored[name]) for name in names}
    values = {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items()}
    if not as_stored and any(tensor.data_type in QUANTISED_TYPES for tensor in tensors.values()):
        for name, kept in find_roles(read_graph(proto)).quantised.items():
            if name in values:
                values[name] = kept.dequantised(values[name])
    return values


def _tensor(holder: TensorProto | NodeProto) -> TensorProto:
    tensor = holder if isinstance(holder, TensorProto) else constant_tensor(holder)
    if tensor is None:
        raise KeyError(f"{holder.name!r} holds no tensor")
    return tensor


def _set_constant(node: NodeProto, value: np.ndarray) -> None:
    attribute = node.attribute[0]
    if attribute.name == "value":
        set_values(attribute.t, value)
    elif attribute.name == "value_floats" and value.shape == (len(attribute.floats),):
        del attribute.floats[:]
        attribute.floats.extend(value.tolist())
    elif attribute.name == "value_float" and value.shape == ():
        attribute.f = float(value)
    else:
        raise ValueError(
            f"the Constant {node.output[0]!r} does not hold a float tensor of shape {value.shape}"
        )


def _set_property(proto: onnx.ModelProto, key: str, text: str) -> None:
    if key not in PROPERTIES:
        raise ValueError(f"{key!r} is not a property that Prunery writes; those are {', '.join(PROPERTIES)}")
    for entry in proto.metadata_props:
        if entry.key == key:
            entry.value = text
            return
    proto.metadata_props.add(key=key, value=text)
