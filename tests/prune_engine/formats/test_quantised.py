"""Weights that a file keeps as integers with a scale: found, trained as floats, written back as integers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from prune_engine.errors import NoPrunableWeightsError
from prune_engine.formats import import_onnx, not_prunable
from prune_engine.formats.quantised import QUANTISED_TYPES, Quantisation, quantisation
from prune_engine.formats.reading import read_graph
from prune_engine.formats.weights import find_roles
from tests.prune_engine.formats.quantised_graphs import (
    LAYERS,
    RANDOM,
    array,
    check,
    dequantise,
    example,
    model,
    quantised_layer,
    run,
    steps,
    stored,
)
from tests.prune_engine.formats.running import distance

UNSIGNED = {TensorProto.UINT2, TensorProto.UINT4, TensorProto.UINT8, TensorProto.UINT16}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    "element_type", [TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4]
)
def test_one_scale_for_the_weight(name: str, element_type: int) -> None:
    layer = LAYERS[name]
    module = check(quantised_layer(layer, element_type), example(layer), layer.kind)
    assert module.prunable[0].output_axis == layer.output_axis
    assert module.prunable[0].shape == layer.shape


@pytest.mark.parametrize("name", LAYERS)
def test_a_scale_for_each_channel(name: str) -> None:
    layer = LAYERS[name]
    check(quantised_layer(layer, axis=layer.output_axis), example(layer), layer.kind)


@pytest.mark.parametrize(("name", "axis"), [("MatMul", 0), ("Gemm", 1), ("Conv", 1)])
def test_a_scale_for_each_block(name: str, axis: int) -> None:
    layer = LAYERS[name]
    check(quantised_layer(layer, TensorProto.INT4, axis=axis, block=2), example(layer), layer.kind)


@pytest.mark.parametrize(("smallest", "wanted"), [(-127, -127), (-128, -128)])
def test_weights_that_leave_out_the_smallest_integer_keep_doing_so(smallest: int, wanted: int) -> None:
    layer = LAYERS["MatMul"]
    proto = quantised_layer(layer)
    weight = next(tensor for tensor in proto.graph.initializer if tensor.name == "w")
    values = stored(layer.shape)
    values[0, 0] = smallest
    weight.CopyFrom(numpy_helper.from_array(values, "w"))
    module = import_onnx(proto)
    with torch.no_grad():
        module.weights["w"].fill_(-1e6)
    assert set(module.state_values()["w"].reshape(-1).tolist()) == {wanted}


def test_scales_may_be_negative() -> None:
    """Quantisers that use the larger half of the range turn the sign of the scale."""
    layer = LAYERS["MatMul"]
    proto = quantised_layer(layer, TensorProto.INT4, axis=0, block=2)
    scale = next(tensor for tensor in proto.graph.initializer if tensor.name == "w_s")
    scale.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(scale), "w_s"))
    check(proto, example(layer), "MatMul")


@pytest.mark.parametrize("kind", [TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2])
def test_eight_bit_floats_with_a_scale(kind: int) -> None:
    layer = LAYERS["MatMul"]
    proto = quantised_layer(layer)
    del proto.graph.initializer[:]
    weight = array(RANDOM.standard_normal(layer.shape) * 20, kind)
    for key, value in {"w": weight, "w_s": np.array(0.1, np.float32), "w_z": array(0, kind)}.items():
        proto.graph.initializer.append(numpy_helper.from_array(value, key))
    check(proto, example(layer), "MatMul")


def test_integers_that_are_moved_before_they_are_scaled() -> None:
    layer = LAYERS["MatMul"]
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("DequantizeLinear", ["t", "w_s", "w_z"], ["f"], axis=1),
        *layer.nodes(),
    ]
    constants = {"w": stored((5, 8)), "w_s": steps(5), "w_z": np.zeros(5, np.int8)}
    module = check(model(nodes, constants, layer.x), example(layer), "MatMul")
    assert module.prunable[0].output_axis == 0


def test_floats_that_are_moved_after_they_were_scaled() -> None:
    layer = LAYERS["MatMul"]
    nodes = [
        dequantise("w", "d", axis=0),
        helper.make_node("Transpose", ["d"], ["f"], perm=[1, 0]),
        *layer.nodes(),
    ]
    constants = {"w": stored((5, 8)), "w_s": steps(5), "w_z": np.zeros(5, np.int8)}
    check(model(nodes, constants, layer.x), example(layer), "MatMul")


def test_rows_of_a_table_that_are_scaled_after_they_were_taken() -> None:
    nodes = [
        helper.make_node("Gather", ["w", "x"], ["t"]),
        helper.make_node("DequantizeLinear", ["t", "w_s", "w_z"], ["y"]),
    ]
    nodes.append(helper.make_node("BitwiseNot", ["t"], ["whatever else reads the integers"]))
    constants = {"w": stored((9, 4)), "w_s": steps(), "w_z": np.array(3, np.int8)}
    x = torch.from_numpy(RANDOM.integers(0, 9, (7,)))
    check(model(nodes, constants, (7,), TensorProto.INT64), x, "Embedding")


def test_float_weights_that_the_graph_itself_rounds_are_trained_as_they_are() -> None:
    """The form in which quantisation-aware training leaves a model."""
    nodes = [
        helper.make_node("QuantizeLinear", ["w", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["f"]),
        helper.make_node("MatMul", ["x", "f"], ["y"], name="layer"),
    ]
    weight = RANDOM.standard_normal((8, 5)).astype(np.float32)
    constants = {"w": weight, "s": np.array(0.02, np.float32), "z": np.array(0, np.int8)}
    proto = model(nodes, constants, (3, 8))
    module = import_onnx(proto).eval()
    assert [(w.name, w.kind) for w in module.prunable] == [("w", "MatMul")]
    x = torch.from_numpy(RANDOM.standard_normal((3, 8)).astype(np.float32))
    assert distance(module(x), run(proto, x)) < 1e-5
    module(x)[0].square().sum().backward()
    gradient = module.weights["w"].grad
    assert gradient is not None
    inside = torch.from_numpy(np.abs(weight) < 127 * 0.02)
    assert bool((gradient[inside] != 0).all())
    np.testing.assert_array_equal(module.state_values()["w"], weight)


def test_biases_behind_a_scale_are_trained() -> None:
    nodes = [
        dequantise("w", "f"),
        dequantise("b", "g"),
        helper.make_node("Gemm", ["x", "f", "g"], ["y"], name="layer"),
    ]
    constants = {
        "w": stored((8, 5)),
        "w_s": steps(),
        "w_z": np.array(0, np.int8),
        "b": np.array([2**30, -5, 0, 70_000, 2**24 + 1], np.int32),
        "b_s": np.array(1e-4, np.float32),
        "b_z": np.array(0, np.int32),
    }
    proto = model(nodes, constants, (3, 8))
    module = check(proto, torch.from_numpy(RANDOM.standard_normal((3, 8)).astype(np.float32)), "Gemm")
    assert [weight.name for weight in module.prunable] == ["w"]
    with torch.no_grad():
        module.weights["b"][1] += 0.01
    assert module.state_values()["b"].tolist() == [2**30, 95, 0, 70_000, 2**24 + 1]


def test_one_gate_for_integers_that_two_layers_share() -> None:
    nodes = [
        dequantise("w", "f"),
        helper.make_node("DequantizeLinear", ["w", "w_s", "w_z"], ["g"], name="again"),
        helper.make_node("MatMul", ["x", "f"], ["h"], name="one"),
        helper.make_node("MatMul", ["h", "g"], ["y"], name="two"),
    ]
    constants = {"w": stored((8, 8)), "w_s": steps(), "w_z": np.array(0, np.int8)}
    module = check(model(nodes, constants, (3, 8)), torch.randn(3, 8), "MatMul")
    assert module.prunable[0].nodes == ("one", "two")


def refused(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], why: str) -> None:
    proto = model(nodes, constants, (3, 8))
    with pytest.raises(NoPrunableWeightsError, match=f"'w' is quantised, but {why}"):
        import_onnx(proto)
    graph = read_graph(proto)
    reasons = {name: reason for name, _, reason in not_prunable(graph, find_roles(graph))}
    assert reasons["w"] == f"quantised, and {why}"
    assert reasons.get("w_s", "quantisation scale") == "quantisation scale"


def test_integers_that_stand_for_different_floats_are_constants() -> None:
    nodes = [
        dequantise("w", "f"),
        helper.make_node("DequantizeLinear", ["w", "other", "w_z"], ["g"]),
        helper.make_node("MatMul", ["x", "f"], ["h"]),
        helper.make_node("MatMul", ["h", "g"], ["y"]),
    ]
    constants = {"w": stored((8, 8)), "w_s": steps(), "other": steps(), "w_z": np.array(0, np.int8)}
    refused(nodes, constants, "it is used with different scales")


def test_a_scale_that_is_computed_or_zero_makes_a_constant() -> None:
    layer, zero = LAYERS["MatMul"].nodes(), np.array(0, np.int8)
    constants = {"w": stored((8, 5)), "w_s": np.array(0.0, np.float32), "w_z": zero}
    refused([dequantise("w", "f"), *layer], constants, "its scale is zero or no number")
    computed = [helper.make_node("Abs", ["a"], ["w_s"]), dequantise("w", "f"), *layer]
    constants = {"w": stored((8, 5)), "a": steps(), "w_z": zero}
    refused(computed, constants, "its scale or zero point is computed in the graph")


def test_scales_of_integers_that_cannot_be_trained_stay() -> None:
    """They are neither biases nor weights, though they are floats that a weight is computed from."""
    nodes = [
        helper.make_node("Reshape", ["w", "shape"], ["r"]),
        helper.make_node("DequantizeLinear", ["r", "w_s", "w_z"], ["f"], axis=0),
        helper.make_node("MatMul", ["x", "f"], ["h"]),
        helper.make_node("MatMul", ["h", "v"], ["y"]),
    ]
    constants = {
        "w": stored((40,)),
        "shape": np.array([8, 5]),
        "w_s": steps(8),
        "w_z": np.zeros(8, np.int8),
        "v": RANDOM.standard_normal((5, 2)).astype(np.float32),
    }
    assert set(import_onnx(model(nodes, constants, (3, 8))).weights) == {"v"}


def test_the_gradient_moves_nothing_further_out_of_the_range_of_the_integers() -> None:
    kept = Quantisation(np.array(0.5, np.float32), np.array(0, np.float32), TensorProto.INT8)
    x = torch.tensor([0.1, 63.4, 70.0, -64.2, -70.0], requires_grad=True)
    scale, zero = torch.tensor(0.5), torch.tensor(0.0)
    found = kept.steps(x, scale, zero)
    assert found.tolist() == [1, 127, 127, -128, -128]  # 0.1 is not 0: it stays one step away
    (down,) = torch.autograd.grad(found.sum(), x, retain_graph=True)
    (up,) = torch.autograd.grad(-found.sum(), x)
    assert down.tolist() == [2, 2, 2, 2, 0]  # a step against the gradient moves -70 further away
    assert up.tolist() == [-2, -2, 0, -2, -2]


def test_eight_bit_floats_come_back_into_their_range() -> None:
    kept = Quantisation(np.array(1.0, np.float32), np.array(0, np.float32), TensorProto.FLOAT8E4M3FN)
    x = torch.tensor([1e-9, 500.0, -500.0], requires_grad=True)
    found = kept.steps(x, torch.tensor(1.0), torch.tensor(0.0))
    assert found.tolist() == [2.0**-9, 448, -448]
    (down,) = torch.autograd.grad(found.sum(), x, retain_graph=True)
    (up,) = torch.autograd.grad(-found.sum(), x)
    assert down.tolist() == [1, 1, 0]
    assert up.tolist() == [-1, 0, -1]


@given(
    element_type=st.sampled_from(sorted(QUANTISED_TYPES - {TensorProto.INT32, TensorProto.UINT32})),
    data=st.data(),
    scale=st.floats(2.0**-20, 64.0, width=32).flatmap(lambda s: st.sampled_from([s, -s])),
)
def test_zero_and_nothing_else_becomes_the_zero_point(
    element_type: int, data: st.DataObject, scale: float
) -> None:
    zero = 0
    if TensorProto.DataType.Name(element_type).startswith(("INT", "UINT")):
        ends = {"INT": (-2, 1), "UINT": (0, 3)}["UINT" if element_type in UNSIGNED else "INT"]
        zero = data.draw(st.integers(*ends))
    kept = quantisation(np.float32(scale), array(zero, element_type), element_type, (4,), (0,), (4,), 0)
    assert isinstance(kept, Quantisation)
    values = np.array(data.draw(st.lists(st.floats(-200, 200, width=32), min_size=4, max_size=4)), np.float32)
    values[np.abs(values) < 1e-30] = 0
    found = kept.quantised(values)
    assert found.dtype == helper.tensor_dtype_to_np_dtype(element_type)
    floats = kept.dequantised(found)
    np.testing.assert_array_equal(floats != 0, values != 0)
    assert kept.quantised(floats).tobytes() == found.tobytes()
