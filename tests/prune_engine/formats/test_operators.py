"""The operator table against ONNX's own conformance tests, as far as they use its operators and types."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.loader import load_model_tests

from prune_engine.errors import ModelError
from prune_engine.formats.graph import opset_versions
from prune_engine.formats.importer import compile_graph
from prune_engine.formats.operators import find, rows

LEAST = 850  # cases that run; fewer would mean that the selection below lost some
DIFFERENT = {
    # onnxruntime rounds the size before it places the corners, and its outputs are what ours must agree with.
    "test_resize_downsample_scales_linear_align_corners",
    "test_resize_downsample_scales_cubic_align_corners",
    # torch refuses to take the largest of nothing
    "test_reduce_max_empty_set",
    "test_reduce_min_empty_set",
    "test_reduce_max_empty_set_bool",
}
TYPES = {
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.FLOAT16,
    TensorProto.INT64,
    TensorProto.INT32,
    TensorProto.INT16,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.UINT16,
    TensorProto.UINT32,
    TensorProto.UINT64,
    TensorProto.BOOL,
}


def cases() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load_model_tests(kind="node")
    for case in loaded:
        proto = case.model
        opsets = opset_versions(proto)
        known = all(
            find(n.domain, n.op_type, opsets.get(n.domain, 1)) or n.op_type == "Constant"
            for n in proto.graph.node
        )
        values = (*proto.graph.input, *proto.graph.output)
        typed = all(v.type.HasField("tensor_type") and v.type.tensor_type.elem_type in TYPES for v in values)
        random = case.name.startswith("test_training_dropout") and "zero_ratio" not in case.name
        if known and typed and not random and "bf16" not in case.name and case.name not in DIFFERENT:
            yield case


def array(value: Any) -> np.ndarray:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def check(case: Any) -> None:
    module = compile_graph(case.model).eval()
    for given, wanted in case.data_sets:
        with torch.no_grad():
            found = module(*(torch.from_numpy(array(value).copy()) for value in given))
        for a, b in zip(found, wanted, strict=True):
            expected = array(b)
            assert tuple(a.shape) == expected.shape
            np.testing.assert_allclose(a.numpy().astype(expected.dtype), expected, rtol=1e-3, atol=1e-5)


def test_the_table_computes_what_the_specification_says() -> None:
    failures, count = [], 0
    for case in cases():
        count += 1
        try:
            check(case)
        except (AssertionError, RuntimeError, ValueError, IndexError, TypeError, ModelError) as error:
            failures.append(f"{case.name}: {str(error).strip()[:200]}")
    assert not failures, "\n".join(failures)
    assert count > LEAST


def test_every_row_of_the_table_is_an_operator_of_the_specification() -> None:
    for row in rows():
        assert onnx.defs.has(row.name, row.domain), row.name
        schema = onnx.defs.get_schema(row.name, row.since, row.domain)
        assert schema.since_version <= row.since, row.name


@pytest.mark.parametrize("name", ["ReduceL2", "LpNormalization"])
def test_norms_have_a_gradient_at_zero(name: str) -> None:
    options = {"axes": [1]} if name == "ReduceL2" else {"axis": 1}
    graph = helper.make_graph(
        [helper.make_node(name, ["x"], ["y"], **options)],
        "g",
        [helper.make_tensor_value_info("x", 1, [2, 3])],
        [helper.make_tensor_value_info("y", 1, None)],
    )
    module = compile_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]))
    x = torch.zeros(2, 3, requires_grad=True)
    module(x)[0].sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
