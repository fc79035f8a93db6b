"""Operators on bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from prune_engine.formats.importer import compile_graph
from prune_engine.formats.operators.dtypes import carried, declared
from tests.prune_engine.formats.operators.one_node import by_onnxruntime, by_reference, model


def agrees(
    operator: str, inputs: dict[str, np.ndarray], result: Any, reference: bool, **options: Any
) -> None:
    element_type = helper.np_dtype_to_tensor_dtype(np.dtype(result))
    proto = model(operator, inputs, types={"y0": element_type}, **options)
    wanted = (by_reference if reference else by_onnxruntime)(proto, inputs)[0]
    given = [carried(v, helper.np_dtype_to_tensor_dtype(v.dtype)) for v in inputs.values()]
    found = declared(compile_graph(proto)(*given)[0], element_type)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.uint64])
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shifts(direction: str, dtype: Any) -> None:
    x = np.array([0, 1, 77, np.iinfo(dtype).max, np.iinfo(dtype).max - 3], dtype)
    inputs = {"x": x, "by": np.array([3, 0, 4, 1, 5], dtype)}
    agrees("BitShift", inputs, dtype, reference=False, opset=17, direction=direction)


@pytest.mark.parametrize("operator", ["BitwiseAnd", "BitwiseOr", "BitwiseXor"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint64])
def test_bit_by_bit(operator: str, dtype: Any) -> None:
    inputs = {
        "a": np.array([12, 255, 7], np.uint8).astype(dtype),
        "b": np.array([10, 129, 1], np.uint8).astype(dtype),
    }
    agrees(operator, inputs, dtype, reference=False, opset=18)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_every_bit_turned(dtype: Any) -> None:
    agrees("BitwiseNot", {"a": np.array([12, 0, 7], dtype)}, dtype, reference=False, opset=18)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (np.float32, np.int32),
        (np.float32, np.uint32),
        (np.uint32, np.float32),
        (np.float16, np.uint16),
        (np.int16, np.float16),
        (np.int64, np.float64),
        (np.uint8, np.int8),
    ],
)
def test_the_same_bits_as_another_type(source: Any, target: Any) -> None:
    size = np.dtype(source).itemsize
    values = np.array([1.5, -2.25, 3.0]).astype(f"f{size}" if size > 1 else "i1")
    to = helper.np_dtype_to_tensor_dtype(np.dtype(target))
    agrees("BitCast", {"x": values.view(source)}, target, reference=True, opset=26, to=to)


def test_brain_floats_are_told_from_half_floats() -> None:
    element_type = TensorProto.BFLOAT16
    proto = model(
        "BitCast", {"x": np.zeros(2, np.int16)}, opset=26, to=element_type, types={"y0": element_type}
    )
    found = compile_graph(proto)(carried(np.array([0x3F80, 0x4000], np.int16), TensorProto.INT16))[0]
    assert found.tolist() == [1.0, 2.0]
