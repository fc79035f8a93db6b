"""Small ONNX graphs written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def model(
    nodes: Sequence[onnx.NodeProto],
    initializers: dict[str, np.ndarray],
    *,
    shape: Sequence[int | str] = ("n", 4),
    opset: int = 17,
    ir_version: int = 8,
    element_type: int = FLOAT,
    output: Sequence[int | str] | None = None,
    **options: Any,
) -> onnx.ModelProto:
    """A model from "x" to "y"; the output's shape is left open."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", element_type, list(shape))],
        [helper.make_tensor_value_info("y", element_type, output)],
        [numpy_helper.from_array(values, name) for name, values in initializers.items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version, **options
    )


def values(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def linear(opset: int = 17, **options: Any) -> onnx.ModelProto:
    """y = x W + b with W of shape [4, 3]."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
        helper.make_node("Add", ["h", "b"], ["y"], name="shift"),
    ]
    return model(nodes, {"w": values(4, 3), "b": values(3, seed=1)}, opset=opset, output=("n", 3), **options)
