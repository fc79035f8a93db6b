"""Sizes that a graph computes: the same numbers as in onnxruntime, and no tensor on the way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from prune_engine.formats.importer import compile_graph

X = torch.zeros(2, 3, 4)


def shape_model(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    kind: int = TensorProto.INT64,
    opset: int = 17,
) -> onnx.ModelProto:
    """A graph from x [2, 3, 4] to y; `s` is the shape of x, the graph has no declared sizes."""
    graph = helper.make_graph(
        [helper.make_node("Shape", ["x"], ["s"]), *nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["a", "b", "c"])],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def agree(proto: onnx.ModelProto) -> None:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(None, {"x": X.numpy()})[0]
    found = compile_graph(proto)(X)[0].numpy()
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def node(operator: str, inputs: Sequence[str], output: str = "y", **options: object) -> onnx.NodeProto:
    return helper.make_node(operator, list(inputs), [output], **options)


INTEGERS = st.integers(-7, 7)
BINARY = ["Add", "Sub", "Mul", "Div", "Mod", "Min", "Max", "Pow"]


@settings(max_examples=120, deadline=None)
@given(
    operators=st.lists(st.tuples(st.sampled_from(BINARY), INTEGERS, st.booleans()), min_size=1, max_size=4),
    place=st.integers(-3, 2),
)
def test_chains_of_integer_arithmetic(operators: list[tuple[str, int, bool]], place: int) -> None:
    nodes = [node("Gather", ["s", "place"], "v0")]
    constants = {"place": np.array(place)}
    for i, (operator, value, swapped) in enumerate(operators):
        if operator in ("Div", "Mod"):
            value, swapped = value or 3, False  # nothing is divided by zero
        if operator == "Pow":
            value, swapped = abs(value) % 3, False
        constants[f"c{i}"] = np.array(value)
        inputs = [f"c{i}", f"v{i}"] if swapped else [f"v{i}", f"c{i}"]
        nodes.append(node(operator, inputs, f"v{i + 1}"))
    nodes[-1].output[0] = "y"
    agree(shape_model(nodes, constants))


@settings(max_examples=100, deadline=None)
@given(
    factors=st.lists(st.floats(0.0625, 20, width=32), min_size=1, max_size=3),
    rounding=st.sampled_from(["Floor", "Ceil", "Round"]),
)
def test_sizes_are_scaled_in_float32(factors: list[float], rounding: str) -> None:
    nodes = [node("Gather", ["s", "place"], "n"), node("Cast", ["n"], "v0", to=TensorProto.FLOAT)]
    constants = {"place": np.array(1)}
    for i, factor in enumerate(factors):
        constants[f"c{i}"] = np.array(factor, np.float32)
        nodes.append(node("Div" if i % 2 else "Mul", [f"v{i}", f"c{i}"], f"v{i + 1}"))
    nodes += [node(rounding, [f"v{len(factors)}"], "r"), node("Cast", ["r"], to=TensorProto.INT64)]
    agree(shape_model(nodes, constants))


def test_seven_tenths_of_ten_are_seven() -> None:
    """0.7 as a float32 is less than 0.7, and only a float32 product rounds up to 7."""
    nodes = [
        node("Mul", ["s", "tens"], "t"),
        node("Cast", ["t"], "f", to=TensorProto.FLOAT),
        node("Mul", ["f", "part"], "p"),
        node("Floor", ["p"], "r"),
        node("Cast", ["r"], to=TensorProto.INT64),
    ]
    agree(shape_model(nodes, {"tens": np.array([5, 10, 5]), "part": np.array([0.7], np.float32)}))


@pytest.mark.parametrize(
    ("bounds", "axes", "steps"),
    [
        (([0], [-1]), None, None),
        (([-1], [-(2**63)]), [0], [-1]),
        (([1], [2**63 - 1]), [0], [1]),
        (([2], [0]), [-1], [-1]),
        (([3], [5]), [0], None),
        (([-100], [100]), [0], [2]),
    ],
)
def test_slices_of_a_shape(
    bounds: tuple[list[int], list[int]], axes: list[int] | None, steps: list[int] | None
) -> None:
    given_ = {"starts": bounds[0], "ends": bounds[1], "axes": axes, "steps": steps}
    constants = {name: np.array(value, np.int64) for name, value in given_.items() if value is not None}
    names = ["s", *(name if name in constants else "" for name in given_)]
    while not names[-1]:
        names.pop()
    agree(shape_model([node("Slice", names)], constants))


@pytest.mark.parametrize("other", [np.array(2), np.array([2]), np.array([1, 2, 3]), np.array([], np.int64)])
def test_lists_and_numbers_broadcast(other: np.ndarray) -> None:
    part = [] if other.size else [node("Slice", ["s", "one", "two"], "t")]
    constants = {"c": other, "one": np.array([1]), "two": np.array([2])}
    agree(shape_model([*part, node("Add", ["t" if part else "s", "c"])], constants))


@pytest.mark.parametrize("fmod", [0, 1])
def test_remainders_stay_whole(fmod: int) -> None:
    nodes = [node("Neg", ["s"], "n"), node("Mod", ["n", "c"], fmod=fmod)]
    agree(shape_model(nodes, {"c": np.array([3, 2, 3])}))


def test_whole_numbers_wrap_around() -> None:
    agree(shape_model([node("Add", ["s", "c"])], {"c": np.array([2**63 - 1])}))
    agree(shape_model([node("Mul", ["s", "c"])], {"c": np.array([2**62 + 5])}))


@pytest.mark.parametrize("kind", [np.int32, np.int8, np.uint8, np.uint16, np.float32])
def test_constants_keep_their_type(kind: type) -> None:
    """Both operands are known at import."""
    nodes = [node("Add", ["a", "b"])]
    constants = {"a": np.array([100, 2], kind), "b": np.array([100, 3], kind)}
    proto = shape_model(nodes, constants, helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
    found = compile_graph(proto)(X)[0]
    assert found.numpy().astype(kind).tolist() == (constants["a"] + constants["b"]).tolist()
    if kind in (np.int32, np.float32):
        agree(proto)


@pytest.mark.parametrize(
    ("a", "b"), [(1.0, 0.0), (-1.0, 0.0), (0.0, 0.0), (1.0, -0.0), (3.0, 2.0), (float("inf"), 0.0)]
)
def test_floats_are_divided_by_zero(a: float, b: float) -> None:
    constants = {"a": np.array([a], np.float32), "b": np.array([b], np.float32)}
    agree(shape_model([node("Div", ["a", "b"])], constants, TensorProto.FLOAT))


@pytest.mark.parametrize(
    ("base", "exponent"), [(2, 0.5), (2.0, 3), (-2.0, 0.5), (3, 2), (2, -1), (0.0, -1.0)]
)
def test_powers_have_the_type_of_the_base(base: float, exponent: float) -> None:
    constants = {
        "a": np.array([base], np.float32 if isinstance(base, float) else np.int64),
        "b": np.array([exponent], np.float32 if isinstance(exponent, float) else np.int64),
    }
    kind = TensorProto.FLOAT if isinstance(base, float) else TensorProto.INT64
    agree(shape_model([node("Pow", ["a", "b"])], constants, kind))


@pytest.mark.parametrize("operator", ["ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin"])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reductions_of_a_shape(keepdims: int, operator: str) -> None:
    axes = {"axes": np.array([0])} if operator == "ReduceSum" else {}
    options = {} if axes else {"axes": [0]}
    agree(shape_model([node(operator, ["s", *axes], keepdims=keepdims, **options)], axes))


def test_no_axes_may_mean_none() -> None:
    agree(shape_model([node("ReduceSum", ["s"], noop_with_empty_axes=1)], {}))


@pytest.mark.parametrize(("start", "end"), [(0, None), (1, None), (0, -1), (-1, 1)])
def test_the_shape_of_a_shape(start: int, end: int | None) -> None:
    options = {"start": start} | ({} if end is None else {"end": end})
    agree(shape_model([node("Shape", ["s"], **options)], {}))


def test_casts_wrap_and_truncate() -> None:
    nodes = [node("Mul", ["s", "c"], "p"), node("Cast", ["p"], "i", to=TensorProto.INT32)]
    nodes.append(node("Cast", ["i"], to=TensorProto.INT64))
    agree(shape_model(nodes, {"c": np.array([2**31 - 1, -(2**31), 2**33 + 1])}))
    fraction = [node("Cast", ["f"], to=TensorProto.INT64)]
    agree(shape_model(fraction, {"f": np.array([-1.7, 1.7, 0.0], np.float32)}))


def test_a_network_may_choose_sizes() -> None:
    nodes = [
        node("Gather", ["s", "one"], "n"),
        node("Greater", ["n", "limit"], "large"),
        node("Not", ["large"], "small"),
        node("Where", ["small", "n", "limit"], "v"),
        node("Unsqueeze", ["v", "zero"], "u"),
        node("Concat", ["u", "rest"], "target", axis=0),
        node("Expand", ["x0", "target"]),
    ]
    constants = {
        "one": np.array(1),
        "limit": np.array(2),
        "zero": np.array([0]),
        "rest": np.array([5]),
        "x0": np.array([[1.0]], np.float32),
    }
    agree(shape_model(nodes, constants, TensorProto.FLOAT))
