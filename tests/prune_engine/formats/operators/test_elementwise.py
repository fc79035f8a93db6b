"""Arithmetic element by element."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper

from prune_engine.formats.importer import compile_graph
from prune_engine.formats.operators.dtypes import carried
from tests.prune_engine.formats.operators.one_node import agree, gradient_agrees, holds, model

RANDOM = np.random.default_rng(12)
X = (RANDOM.permutation(12).reshape(3, 4) / 15 + 0.11).astype(np.float32)
SIGNED = np.array([-7, -4, -1, 0, 3, 8])


def kind(value: np.ndarray) -> dict[str, int]:
    return {"y0": helper.np_dtype_to_tensor_dtype(value.dtype)}


@pytest.mark.parametrize(
    "operator",
    [
        "Abs",
        "Neg",
        "Exp",
        "Log",
        "Sqrt",
        "Reciprocal",
        "Sin",
        "Cos",
        "Tan",
        "Asin",
        "Acos",
        "Atan",
        "Erf",
        "Sinh",
        "Cosh",
        "Asinh",
        "Atanh",
    ],
)
def test_functions_of_one_variable(operator: str) -> None:
    holds(operator, {"x": X}, opset=17)


def test_the_inverse_of_the_hyperbolic_cosine() -> None:
    holds("Acosh", {"x": X + 1.5}, opset=17)


@pytest.mark.parametrize("operator", ["Floor", "Ceil", "Round", "Sign"])
def test_steps(operator: str) -> None:
    x = np.array([-2.5, -1.5, -0.5, -0.2, 0.0, 0.5, 1.5, 2.5, 2.6], np.float32)
    holds(operator, {"x": x}, gradient=False, opset=17)


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div", "Pow"])
def test_functions_of_two_variables_broadcast(operator: str) -> None:
    other = RANDOM.uniform(0.5, 2, (2, 1, 4)).astype(np.float32)
    holds(operator, {"a": X, "b": other}, opset=17)
    holds(operator, {"a": other, "b": np.array(1.5, np.float32)}, opset=17)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.int8])
def test_division_of_integers_rounds_to_zero(dtype: Any) -> None:
    a, b = np.repeat(SIGNED, 4).astype(dtype), np.tile([-3, -2, 2, 3], 6).astype(dtype)
    holds("Div", {"a": a, "b": b}, gradient=False, opset=14, types=kind(a))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
@pytest.mark.parametrize("fmod", [0, 1])
def test_remainders(fmod: int, dtype: Any) -> None:
    a, b = np.repeat(SIGNED, 4).astype(dtype), np.tile([-3, -2, 2, 3], 6).astype(dtype)
    holds("Mod", {"a": a, "b": b}, gradient=False, opset=13, types=kind(a), fmod=fmod)


def test_the_remainder_of_floats_has_the_sign_of_the_dividend() -> None:
    a, b = np.array([-4.3, 7.2, 5.0, -3.0], np.float32), np.array([2.1, -3.4, 8.0, 2.0], np.float32)
    holds("Mod", {"a": a, "b": b}, gradient=False, opset=13, fmod=1)


@pytest.mark.parametrize("base", [np.int32, np.int64, np.float32])
@pytest.mark.parametrize("exponent", [np.int32, np.int64, np.float32])
def test_powers_have_the_type_of_the_base(base: Any, exponent: Any) -> None:
    a, b = np.array([1, 2, 3, 4]).astype(base), np.array([0, 3, 2, 1]).astype(exponent)
    holds("Pow", {"a": a, "b": b}, gradient=False, opset=15, types=kind(a))


def test_a_square_has_a_gradient_at_zero() -> None:
    inputs = {"a": np.array([0.0, -2.0], np.float32), "b": np.array(2.0, np.float32)}
    module = compile_graph(model("Pow", inputs, opset=15, constants=("b",)))
    x = torch.tensor([0.0, -2.0], requires_grad=True)
    module(x)[0].sum().backward()
    assert x.grad.tolist() == [0.0, -4.0]


@pytest.mark.parametrize("operator", ["Sum", "Mean", "Max", "Min"])
def test_of_several_tensors(operator: str) -> None:
    parts = {"a": X, "b": X[1:2] * 0.7 + 0.2, "c": X[:, :1] * 1.3 + 0.01}
    holds(operator, parts, opset=13)
    holds(operator, {"a": X}, opset=13)


@pytest.mark.parametrize("operator", ["Max", "Min"])
def test_extremes_of_integers_and_of_what_is_no_number(operator: str) -> None:
    inputs = {"a": np.array([1.0, np.nan, 3.0], np.float32), "b": np.array([2.0, 0.0, np.nan], np.float32)}
    holds(operator, inputs, gradient=False, opset=13)
    whole = {"a": SIGNED, "b": SIGNED[::-1].copy()}
    holds(operator, whole, gradient=False, opset=13, types=kind(SIGNED))


@pytest.mark.parametrize(("low", "high"), [(None, None), (0.3, None), (None, 0.6), (0.3, 0.6), (0.6, 0.3)])
@pytest.mark.parametrize("known", [False, True])
def test_clipping(known: bool, low: float | None, high: float | None) -> None:
    inputs = {
        "x": X,
        "low": None if low is None else np.array(low, np.float32),
        "high": None if high is None else np.array(high, np.float32),
    }
    constants = [name for name in ("low", "high") if known and inputs[name] is not None]
    holds("Clip", inputs, gradient=False, opset=13, constants=constants)


def test_clipping_by_attributes() -> None:
    holds("Clip", {"x": X}, opset=10, min=0.28, max=0.75)


def test_clipping_integers() -> None:
    inputs = {"x": SIGNED, "low": np.array(-3), "high": np.array(5)}
    holds("Clip", inputs, gradient=False, opset=13, types=kind(SIGNED))


@pytest.mark.parametrize(("negative", "positive"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_infinity(negative: int, positive: int) -> None:
    x = np.array([-np.inf, 0, np.inf, np.nan], np.float32)
    options = {"detect_negative": negative, "detect_positive": positive}
    holds("IsInf", {"x": x}, gradient=False, opset=13, types={"y0": 9}, **options)
    holds("IsNaN", {"x": x}, gradient=False, opset=13, types={"y0": 9})


@pytest.mark.parametrize("operator", ["Add", "Mul", "Pow"])
def test_before_opset_7_operands_were_lined_up_by_an_axis(operator: str) -> None:
    a, b = (
        RANDOM.uniform(1, 2, (2, 3, 4, 5)).astype(np.float32),
        RANDOM.uniform(1, 2, (3, 4)).astype(np.float32),
    )
    proto = model(operator, {"a": a, "b": b}, opset=6, broadcast=1, axis=1)
    apply = {"Add": np.add, "Mul": np.multiply, "Pow": np.power}[operator]
    agree(proto, {"a": a, "b": b}, [apply(a, b[:, :, None])])
    gradient_agrees(proto, {"a": a, "b": b})


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul"])
def test_unsigned_integers_wrap_around_on_the_way(operator: str, dtype: Any) -> None:
    """Half of the wrapped result tells it from one that is cut only at the end."""
    values = {"a": np.array([3, 60000, np.iinfo(dtype).max], dtype), "b": np.array([7, 60000, 5], dtype)}
    value = helper.make_tensor_value_info
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [helper.make_node(operator, ["a", "b"], ["c"]), helper.make_node("Div", ["c", "two"], ["y"])]
    two = numpy_helper.from_array(np.array(2, dtype), "two")
    graph = helper.make_graph(
        nodes, "g", [value(n, kind, [3]) for n in values], [value("y", kind, None)], [two]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    found = compile_graph(proto)(*(carried(v, kind) for v in values.values()))[0]
    with np.errstate(over="ignore"):
        apply = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}[operator]
        assert found.tolist() == (apply(*values.values()) // 2).tolist()
