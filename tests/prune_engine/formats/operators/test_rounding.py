"""Rounding to narrow types, bit for bit as ml_dtypes does it, with straight-through gradients."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from prune_engine.formats.operators.dtypes import NARROW_FLOATS, carried, declared
from prune_engine.formats.operators.rounding import largest, rounded, whole

ROUNDED = sorted({TensorProto.FLOAT16, TensorProto.BFLOAT16} | NARROW_FLOATS - {TensorProto.FLOAT8E8M0})
EIGHT_BITS = sorted(NARROW_FLOATS - {TensorProto.FLOAT8E8M0, TensorProto.FLOAT4E2M1})

SAMPLE = np.concatenate(
    [
        np.linspace(-500, 500, 20001),
        np.linspace(-70000, 70000, 20001),
        np.linspace(-8, 8, 4097),
        10.0 ** np.linspace(-9, 4.9, 5000),
        [0.0, -0.0, 464.0, 465.0, 240.0, 248.0, 57344.0, 61440.0, 65504.0, np.inf, -np.inf],
    ]
).astype(np.float32)


def name(element_type: int) -> str:
    return str(TensorProto.DataType.Name(element_type))


def narrow(x: np.ndarray, element_type: int) -> np.ndarray:
    with np.errstate(all="ignore"):
        return x.astype(onnx.helper.tensor_dtype_to_np_dtype(element_type)).astype(np.float32)


@pytest.mark.parametrize("element_type", ROUNDED, ids=name)
def test_every_value_is_rounded_to_the_nearest_one_of_the_type(element_type: int) -> None:
    found = rounded(torch.from_numpy(SAMPLE), element_type, saturate=False).numpy()
    np.testing.assert_array_equal(found, narrow(SAMPLE, element_type))


@pytest.mark.parametrize("element_type", EIGHT_BITS, ids=name)
def test_what_is_too_large_becomes_the_largest_value_where_saturation_is_asked_for(element_type: int) -> None:
    found = rounded(torch.tensor([1e6, -1e6, np.inf, -np.inf, np.nan]), element_type)
    limit = largest(element_type)
    assert found[:4].tolist() == [limit, -limit, limit, -limit]
    assert found[4].isnan()


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ("up", [2.0**-127, 0.125, 0.25, 2.0, 2.0, 4.0, 2.0**127]),
        ("down", [2.0**-127, 0.0625, 0.25, 1.0, 1.0, 2.0, 2.0**127]),
        ("nearest", [2.0**-127, 0.125, 0.25, 1.0, 2.0, 4.0, 2.0**127]),
    ],
)
def test_float8e8m0_holds_powers_of_two(mode: str, wanted: list[float]) -> None:
    x = torch.tensor([0.0, 0.124, 0.25, 1.49, 1.5, 3.0, np.inf])
    assert rounded(x, TensorProto.FLOAT8E8M0, round_mode=mode).tolist() == wanted
    assert rounded(x, TensorProto.FLOAT8E8M0, saturate=False)[-1].isnan()


@pytest.mark.parametrize("element_type", EIGHT_BITS, ids=name)
def test_the_gradient_passes_inside_the_range_only(element_type: int) -> None:
    x = torch.tensor([0.3, -1.7, 1e6, -1e6], requires_grad=True)
    rounded(x, element_type).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 1.0, 0.0, 0.0]


def test_float16_passes_gradients_that_it_could_not_hold() -> None:
    x = torch.tensor([1.0], requires_grad=True)
    (rounded(x, TensorProto.FLOAT16) * 1e-20).sum().backward()
    assert x.grad is not None
    assert x.grad.item() == pytest.approx(1e-20)


@pytest.mark.parametrize(
    ("element_type", "low", "high"), [(TensorProto.INT4, -8, 7), (TensorProto.UINT2, 0, 3)]
)
def test_narrow_integers_wrap_around_and_lose_fractions(element_type: int, low: int, high: int) -> None:
    x = torch.tensor([low - 1.0, low, high + 0.9, high + 1.0])
    assert whole(x, element_type).tolist() == [high, low, high, low]


@pytest.mark.parametrize(
    "element_type",
    [*ROUNDED, TensorProto.INT4, TensorProto.UINT4, TensorProto.INT2, TensorProto.UINT16],
    ids=name,
)
def test_values_are_carried_there_and_back(element_type: int) -> None:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(element_type)
    array = np.array([0, 1, 1, 0]).astype(dtype)
    back = declared(carried(array, element_type), element_type)
    assert back.dtype == dtype
    assert back.tobytes() == array.tobytes()
