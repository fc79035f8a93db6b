"""onnxruntime's quantised operators against onnxruntime, to one step of the output's scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from prune_engine.formats.importer import compile_graph
from tests.prune_engine.formats.operators.one_node import MICROSOFT, Inputs, by_onnxruntime, fed, model

RANDOM = np.random.default_rng(9)
KINDS = [np.uint8, np.int8]


def scale(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def whole(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    ends = np.iinfo(dtype)
    return RANDOM.integers(ends.min, ends.max + 1, shape).astype(dtype)


def both(operator: str, inputs: Inputs, kind: int, constants: Sequence[str], **options: Any) -> Any:
    proto = model(operator, inputs, domain=MICROSOFT, types={"y0": kind}, constants=constants, **options)
    given = [torch.from_numpy(v.copy()) for v in fed(proto, inputs).values()]
    (found,) = compile_graph(proto)(*given)
    (wanted,) = by_onnxruntime(proto, inputs)
    assert str(found.dtype).removeprefix("torch.") == str(wanted.dtype)
    assert tuple(found.shape) == wanted.shape
    return found.numpy(), wanted


def near(operator: str, inputs: Inputs, kind: Any, constants: Sequence[str], **options: Any) -> None:
    """At most one step apart, where the value lies halfway, and mostly not at all."""
    element_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    found, wanted = both(operator, inputs, element_type, constants, **options)
    apart = np.abs(found.astype(int) - wanted.astype(int))
    assert apart.max() <= 1
    assert apart.mean() < 0.1
    assert wanted.std() > 1  # not everything at one end


def parameters(kind: Any, **zeros: tuple[float, int]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name, (step, zero) in zeros.items():
        found |= {f"{name}s": scale(step), f"{name}z": np.array(zero, kind)}
    return found


def unary(kind: Any, x: np.ndarray, x_step: float, y_step: float, y_zero: int) -> tuple[Inputs, list[str]]:
    own = parameters(kind, x=(x_step, 30), y=(y_step, y_zero))
    return {"x": x} | own, list(own)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operator", ["QLinearAdd", "QLinearMul"])
def test_sums_and_products(operator: str, kind: Any) -> None:
    a, b, c = (parameters(kind, **{n: v}) for n, v in (("a", (0.1, 20)), ("b", (0.05, 40)), ("c", (0.3, 60))))
    inputs = {"a": whole(3, 4, 5, dtype=kind)} | a | {"b": whole(4, 1, dtype=kind)} | b | c
    near(operator, inputs, kind, [n for n in inputs if n not in "ab"])


@pytest.mark.parametrize("kind", KINDS)
def test_activations(kind: Any) -> None:
    x = whole(4, 6, dtype=kind)
    near("QLinearLeakyRelu", *_with(kind, *unary(kind, x, 0.1, 0.08, 50)), alpha=0.2)
    near("QLinearSigmoid", *_with(kind, *unary(kind, x, 0.05, 1 / 256, 0)))


def _with(kind: Any, inputs: Inputs, constants: list[str]) -> tuple[Inputs, Any, list[str]]:
    return inputs, kind, constants


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("opset", [12, 13])
def test_a_softmax_runs_over_its_axis_or_in_old_opsets_over_all_behind_it(axis: int, opset: int) -> None:
    x = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    inputs, constants = unary(np.uint8, x, 0.3, 1 / 256, 0)
    proto = model(
        "QLinearSoftmax",
        inputs,
        domain=MICROSOFT,
        types={"y0": TensorProto.UINT8},
        constants=constants,
        axis=axis,
    )
    proto.graph.node[0].attribute.append(helper.make_attribute("opset", opset))
    (found,) = compile_graph(proto)(torch.from_numpy(x))
    (wanted,) = by_onnxruntime(proto, inputs)
    assert np.abs(found.numpy().astype(int) - wanted.astype(int)).max() <= 1


@pytest.mark.parametrize("last", [0, 1])
def test_pooling(last: int) -> None:
    x = whole(2, 6, 6, 3) if last else whole(2, 3, 6, 6)
    inputs, constants = unary(np.uint8, x, 0.1, 0.05, 10)
    near("QLinearGlobalAveragePool", inputs, np.uint8, constants, channels_last=last)
    options = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "channels_last": last}
    near("QLinearAveragePool", inputs, np.uint8, constants, **options)
    near("QLinearAveragePool", inputs, np.uint8, constants, count_include_pad=1, **options)


def test_parts_of_different_scales_are_put_together() -> None:
    own = (
        parameters(np.uint8, y=(0.2, 10)),
        parameters(np.uint8, a=(0.1, 5)),
        parameters(np.uint8, b=(0.3, 99)),
    )
    inputs = own[0] | {"a": whole(2, 3)} | own[1] | {"b": whole(2, 4)} | own[2]
    near("QLinearConcat", inputs, np.uint8, [n for n in inputs if n not in "ab"], axis=1)


def test_a_choice_between_different_scales() -> None:
    own = (
        parameters(np.uint8, a=(0.1, 5)),
        parameters(np.uint8, b=(0.3, 99)),
        parameters(np.uint8, y=(0.2, 10)),
    )
    condition = RANDOM.random((2, 3)) < 0.5
    inputs = {"c": condition, "a": whole(2, 3)} | own[0] | {"b": whole(2, 3)} | own[1] | own[2]
    near("QLinearWhere", inputs, np.uint8, [n for n in inputs if n not in "abc"])


@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("quantised", [False, True])
def test_a_quantised_gemm(trans: int, by_column: bool, quantised: bool) -> None:
    a, b = whole(3, 8), whole(8, 5, dtype=np.int8)
    inputs = {
        "a": a.T.copy() if trans else a,
        "as": scale(0.02),
        "az": np.array(100, np.uint8),
        "b": b.T.copy() if trans else b,
        "bs": (RANDOM.random(5) / 50 + 0.01).astype(np.float32) if by_column else scale(0.01),
        "bz": np.zeros(5, np.int8) if by_column else np.array(0, np.int8),
        "c": RANDOM.integers(-3000, 3000, 5).astype(np.int32),
        "ys": scale(0.2) if quantised else None,
        "yz": np.array(100, np.uint8) if quantised else None,
    }
    constants = [name for name, value in inputs.items() if value is not None and name != "a"]
    options: dict[str, Any] = {"transA": trans, "transB": trans}
    if quantised:
        near("QGemm", inputs, np.uint8, constants, **options)
    else:
        found, wanted = both("QGemm", inputs, TensorProto.FLOAT, constants, **options)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("by_column", [False, True])
def test_a_product_of_integers_that_gives_floats(by_column: bool) -> None:
    inputs = {
        "a": whole(2, 3, 8),
        "b": whole(8, 5, dtype=np.int8),
        "as": scale(0.02),
        "bs": (RANDOM.random(5) / 50).astype(np.float32) if by_column else scale(0.01),
        "az": np.array(100, np.uint8),
        "bz": np.zeros(5, np.int8) if by_column else np.array(3, np.int8),
        "bias": RANDOM.random(5).astype(np.float32),
    }
    constants = [name for name in inputs if name != "a"]
    found, wanted = both("MatMulIntegerToFloat", inputs, TensorProto.FLOAT, constants)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


def test_a_product_whose_left_operand_is_quantised_on_the_way() -> None:
    inputs = {
        "a": RANDOM.standard_normal((3, 8)).astype(np.float32),
        "b": whole(8, 5, dtype=np.int8),
        "bs": scale(0.01),
        "bz": np.array(0, np.int8),
        "bias": RANDOM.random(5).astype(np.float32),
    }
    found, wanted = both("DynamicQuantizeMatMul", inputs, TensorProto.FLOAT, ["b", "bs", "bz", "bias"])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)
