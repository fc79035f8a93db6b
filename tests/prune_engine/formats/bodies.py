"""Bodies of If, Loop and Scan written by hand, and what holds for a graph with such."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from prune_engine.formats import import_onnx, read_values, structural_differences, write_back
from prune_engine.formats.importer import compile_graph
from tests.prune_engine.formats.running import distance, run

node = helper.make_node
FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def value(name: str, element_type: int = FLOAT, shape: Sequence[int | str] | None = None) -> Any:
    return helper.make_tensor_value_info(name, element_type, shape)


def body(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    constants: dict[str, np.ndarray] | None = None,
) -> onnx.GraphProto:
    stored = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    return helper.make_graph(list(nodes), "body", list(inputs), list(outputs), stored)


def agrees(proto: onnx.ModelProto, *inputs: Tensor) -> bool:
    return distance(compile_graph(proto).eval()(*inputs), run(proto, *inputs)) < 1e-5


def trains(proto: onnx.ModelProto, *inputs: Tensor) -> None:
    """Every prunable weight gets a gradient, and what training changed computes the same in onnxruntime."""
    module = import_onnx(proto)
    assert distance(module(*inputs), run(proto, *inputs)) < 1e-5
    assert write_back(proto, module.state_values()) == proto
    sum(output.square().sum() for output in module(*inputs)).backward()
    with torch.no_grad():
        for weight in module.prunable:
            gradient = module.weights[weight.name].grad
            assert gradient is not None
            assert gradient.abs().max() > 0
            module.weights[weight.name].mul_(0.5)
    written = write_back(proto, module.state_values())
    assert structural_differences(proto, written) == []
    assert distance(module(*inputs), run(written, *inputs)) < 1e-5
    state = module.state_values()
    for name, found in read_values(written, [weight.name for weight in module.prunable]).items():
        assert (found == state[name]).all()
