"""QuantizeLinear and DequantizeLinear against onnxruntime and the reference; gradients straight through."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from prune_engine.errors import UnsupportedOperatorError
from prune_engine.formats.importer import compile_graph
from prune_engine.formats.operators.dtypes import carried, declared
from tests.prune_engine.formats.operators.one_node import (
    MICROSOFT,
    Inputs,
    by_onnxruntime,
    by_reference,
    fed,
    model,
)

RANDOM = np.random.default_rng(5)
X = (RANDOM.standard_normal((3, 4, 5)) * 4).astype(np.float32)
TYPES = {
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int16": TensorProto.INT16,
    "uint16": TensorProto.UINT16,
    "int4": TensorProto.INT4,
    "uint4": TensorProto.UINT4,
}


def array(values: Any, element_type: int) -> np.ndarray:
    return np.asarray(values).astype(helper.tensor_dtype_to_np_dtype(element_type))


def outputs(proto: onnx.ModelProto, inputs: Inputs) -> list[np.ndarray]:
    """What the importer computes, in the types that the graph declares."""
    module = compile_graph(proto).eval()
    tensors = []
    for value in fed(proto, inputs).values():
        tensors.append(carried(value, helper.np_dtype_to_tensor_dtype(value.dtype)))
    with torch.no_grad():
        found = module(*tensors)
    kinds = [value.type.tensor_type.elem_type for value in proto.graph.output]
    return [declared(tensor, kind) for tensor, kind in zip(found, kinds, strict=True)]


def check(operator: str, inputs: Inputs, kind: int, reference: bool = False, **options: Any) -> None:
    proto = model(operator, inputs, types={"y0": kind}, **options)
    wanted = (by_reference if reference else by_onnxruntime)(proto, inputs)
    for mine, theirs in zip(outputs(proto, inputs), wanted, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine.astype(np.float64), theirs.astype(np.float64))


@pytest.mark.parametrize("kind", TYPES)
def test_one_scale_for_the_tensor(kind: str) -> None:
    element_type = TYPES[kind]
    inputs = {"x": X, "s": np.array(0.3, np.float32), "z": array(1, element_type)}
    narrow = "int4" in kind  # numpy has no such type for onnxruntime to give back
    check("QuantizeLinear", inputs, element_type, reference=narrow, opset=21)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_scale_for_each_channel(axis: int) -> None:
    count = X.shape[axis]
    scales = (RANDOM.random(count) + 0.1).astype(np.float32)
    zeros = RANDOM.integers(-9, 9, count).astype(np.int8)
    inputs = {"x": X, "s": scales, "z": zeros}
    check("QuantizeLinear", inputs, TensorProto.INT8, opset=13, axis=axis)
    check("QuantizeLinear", inputs, TensorProto.INT8, opset=17, domain=MICROSOFT, axis=axis)
    stored = RANDOM.integers(-100, 100, X.shape).astype(np.int8)
    check("DequantizeLinear", inputs | {"x": stored}, TensorProto.FLOAT, opset=13, axis=axis)


@pytest.mark.parametrize("block", [2, 3])
def test_a_scale_for_each_block_also_where_the_last_is_short(block: int) -> None:
    blocks = -(-X.shape[1] // block)
    scales = (RANDOM.random((3, blocks, 5)) + 0.1).astype(np.float32)
    zeros = RANDOM.integers(-3, 3, scales.shape).astype(np.int8)
    inputs = {"x": X, "s": scales, "z": zeros}
    check("QuantizeLinear", inputs, TensorProto.INT8, opset=21, axis=1, block_size=block)
    stored = RANDOM.integers(-100, 100, X.shape).astype(np.int8)
    check("DequantizeLinear", inputs | {"x": stored}, TensorProto.FLOAT, opset=21, axis=1, block_size=block)


def test_without_a_zero_point_the_type_is_uint8_or_what_the_attribute_says() -> None:
    inputs = {"x": X, "s": np.array(0.3, np.float32)}
    check("QuantizeLinear", inputs, TensorProto.UINT8, opset=17)
    check("QuantizeLinear", inputs, TensorProto.INT16, opset=21, output_dtype=TensorProto.INT16)
    check(
        "DequantizeLinear",
        {"x": X.astype(np.int8), "s": np.array(0.3, np.float32)},
        TensorProto.FLOAT,
        opset=17,
    )


@pytest.mark.parametrize(
    "kind",
    [
        TensorProto.FLOAT8E4M3FN,
        TensorProto.FLOAT8E4M3FNUZ,
        TensorProto.FLOAT8E5M2,
        TensorProto.FLOAT8E5M2FNUZ,
    ],
)
@pytest.mark.parametrize("saturate", [0, 1])
def test_eight_bit_floats(kind: int, saturate: int) -> None:
    x = np.concatenate([X.reshape(-1), [900.0, -900.0, 1e5]]).astype(np.float32)
    inputs = {"x": x, "s": np.array(1.5, np.float32), "z": array(0, kind)}
    proto = model("QuantizeLinear", inputs, types={"y0": kind}, opset=19, saturate=saturate)
    wanted = by_reference(proto, inputs)[0].astype(np.float32)
    np.testing.assert_array_equal(outputs(proto, inputs)[0].astype(np.float32), wanted)


def test_two_bit_integers_and_four_bit_floats() -> None:
    for kind in (TensorProto.INT2, TensorProto.UINT2):
        inputs = {"x": X, "s": np.array(2.0, np.float32), "z": array(0, kind)}
        check("QuantizeLinear", inputs, kind, reference=True, opset=25)
    kind = TensorProto.FLOAT4E2M1
    check(
        "QuantizeLinear",
        {"x": X, "s": np.array(2.0, np.float32), "z": array(0, kind)},
        kind,
        reference=True,
        opset=23,
    )


def test_a_precision_rounds_the_quotient_first() -> None:
    x = np.array([0.50001, 1.49999, 2.50001], np.float32)
    inputs = {"x": x, "s": np.array(1.0, np.float32), "z": np.array(0, np.int8)}
    options: dict[str, Any] = {"types": {"y0": TensorProto.INT8}, "opset": 23}
    fine = outputs(model("QuantizeLinear", inputs, **options), inputs)[0]
    coarse = outputs(model("QuantizeLinear", inputs, precision=TensorProto.FLOAT16, **options), inputs)[0]
    assert fine.tolist() == [1, 1, 3]
    assert coarse.tolist() == [0, 2, 2]  # 0.5, 1.5 and 2.5 in float16: ties go to the even one


def test_halves_go_to_the_even_number_and_the_ends_are_cut_off() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 500, -500], np.float32)
    check(
        "QuantizeLinear",
        {"x": x, "s": np.array(1, np.float32), "z": np.array(3, np.int8)},
        TensorProto.INT8,
        opset=17,
    )


def test_a_range_that_is_found_while_running_holds_zero() -> None:
    for x in (X, np.abs(X) + 1, -np.abs(X) - 1, np.zeros((2, 3), np.float32)):
        inputs = {"x": x}
        kinds = {"y0": TensorProto.UINT8, "y2": TensorProto.UINT8}
        proto = model("DynamicQuantizeLinear", inputs, 3, types=kinds, opset=17)
        mine, theirs = outputs(proto, inputs), by_onnxruntime(proto, inputs)
        np.testing.assert_array_equal(mine[0], theirs[0])
        assert mine[2] == theirs[2]
        if x.any():
            np.testing.assert_allclose(mine[1], theirs[1], rtol=1e-6)


def pair(*between: onnx.NodeProto) -> onnx.ModelProto:
    """x -> QuantizeLinear -> `between`, from q to p -> DequantizeLinear -> y; steps of 0.5 up to 63.5."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        *between,
        helper.make_node("DequantizeLinear", ["p" if between else "q", "s", "z"], ["y"]),
    ]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)]
    constants = {"s": np.array(0.5, np.float32), "z": np.array(0, np.int8)}
    graph = helper.make_graph(
        nodes,
        "g",
        given,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


BETWEEN = {
    "nothing": [],
    "Transpose": [helper.make_node("Transpose", ["q"], ["p"], perm=[1, 0])],
    "Reshape": [helper.make_node("Flatten", ["q"], ["p"], axis=0)],
    "MaxPool": [
        helper.make_node("Unsqueeze", ["q", "one"], ["u"]),
        helper.make_node("MaxPool", ["u"], ["p"], kernel_shape=[2]),
    ],
    "Concat": [helper.make_node("Concat", ["q", "q"], ["p"], axis=0)],
    "Pad": [helper.make_node("Pad", ["q", "pads", "z"], ["p"])],
    "Resize": [helper.make_node("Resize", ["q", "", "scales"], ["p"], mode="nearest")],
    "Split": [helper.make_node("Split", ["q", "parts"], ["p", "rest"], axis=1)],
    "Gather": [helper.make_node("Gather", ["q", "one"], ["p"], axis=1)],
    "Slice": [helper.make_node("Slice", ["q", "one", "three", "one"], ["p"])],
}


NUMBERS = {
    "one": np.array([1]),
    "three": np.array([3]),
    "pads": np.array([0, 1, 1, 0]),
    "scales": np.array([1, 2], np.float32),
    "parts": np.array([2, 1]),
}


@pytest.mark.parametrize("between", BETWEEN)
def test_gradients_pass_through_a_pair_and_what_moves_integers(between: str) -> None:
    proto = pair(*BETWEEN[between])
    for name, value in NUMBERS.items():
        proto.graph.initializer.append(numpy_helper.from_array(value, name))
    x = torch.tensor([[0.2, 3.3, 10.1], [-1.4, 100.0, -90.0]], requires_grad=True)
    (y,) = compile_graph(proto)(x)
    np.testing.assert_array_equal(y.detach().numpy(), by_onnxruntime(proto, {"x": x.detach().numpy()})[0])
    y.sum().backward()
    assert x.grad is not None
    inside = x.detach().abs() < 64
    assert x.grad[~inside].eq(0).all()
    assert x.grad[inside].sum() > 0
    if between in ("nothing", "Transpose", "Reshape"):
        torch.testing.assert_close(x.grad, inside.float())


def test_gradients_pass_a_range_that_is_found_while_running() -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [5])],
        [helper.make_tensor_value_info("y", 1, [5])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    x = torch.tensor([-3.0, 0.1, 0.7, 2.0, 9.0], requires_grad=True)
    (y,) = compile_graph(proto)(x)
    assert float((y - x).abs().max()) <= 12 / 255 / 2 + 1e-6
    (y * torch.arange(5.0)).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.arange(5.0))


def test_integers_that_leave_the_quantised_part_are_integers() -> None:
    """They are carried as floats up to there: graph outputs, indices and bit arithmetic get real ones."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("Cast", ["q"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "i"], ["y"]),
        helper.make_node("BitwiseAnd", ["q", "q"], ["b"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [3])],
        [
            helper.make_tensor_value_info("q", TensorProto.UINT8, [3]),
            helper.make_tensor_value_info("y", 1, [3]),
            helper.make_tensor_value_info("b", TensorProto.UINT8, [3]),
        ],
        [
            numpy_helper.from_array(np.array(0.5, np.float32), "s"),
            numpy_helper.from_array(np.array(0, np.uint8), "z"),
            numpy_helper.from_array(np.arange(9, dtype=np.float32) * 10, "table"),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    q, y, b = compile_graph(proto)(torch.tensor([0.0, 1.0, 4.0]))
    assert q.dtype == b.dtype == torch.uint8
    assert q.tolist() == b.tolist() == [0, 2, 8]
    assert y.tolist() == [0.0, 20.0, 80.0]


def test_constants_are_quantised_at_import() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["q"]),
        helper.make_node("Cast", ["q"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "f"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [2])],
        [helper.make_tensor_value_info("y", 1, [2])],
        [
            numpy_helper.from_array(np.array([1.2, 300.0], np.float32), "c"),
            numpy_helper.from_array(np.array(0.5, np.float32), "s"),
            numpy_helper.from_array(np.array(1, np.uint8), "z"),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    assert compile_graph(proto)(torch.ones(2))[0].tolist() == [3.0, 255.0]


def test_a_type_that_holds_no_signs_is_refused_by_name() -> None:
    inputs = {"x": X, "s": np.array(1.0, np.float32)}
    kind = TensorProto.FLOAT8E8M0
    proto = model("QuantizeLinear", inputs, types={"y0": kind}, opset=24, output_dtype=kind)
    with pytest.raises(UnsupportedOperatorError, match="FLOAT8E8M0"):
        compile_graph(proto)
