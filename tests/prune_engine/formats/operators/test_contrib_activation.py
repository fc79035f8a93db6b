"""onnxruntime's fused activations against onnxruntime, or against their parts where it has no kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from prune_engine.errors import UnsupportedOperatorError
from prune_engine.formats.importer import compile_graph
from tests.prune_engine.formats.operators.one_node import (
    MICROSOFT,
    Inputs,
    agree,
    by_onnxruntime,
    computed,
    gradient_agrees,
    model,
)

RANDOM = np.random.default_rng(11)


def values(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


X = values(2, 3, 8)


def check(operator: str, inputs: Inputs, **options: Any) -> None:
    proto = model(operator, inputs, domain=MICROSOFT, **options)
    agree(proto, inputs, by_onnxruntime(proto, inputs))
    gradient_agrees(proto, inputs)


def our(operator: str, inputs: Inputs, outputs: int = 1, **options: Any) -> list[torch.Tensor]:
    proto = model(operator, inputs, outputs, domain=MICROSOFT, **options)
    gradient_agrees(proto, inputs)
    return computed(compile_graph(proto), proto, inputs)


@pytest.mark.parametrize("operator", ["Gelu", "FastGelu", "QuickGelu", "ScaledSiLU"])
def test_of_one_input(operator: str) -> None:
    check(operator, {"x": X})


@pytest.mark.parametrize("operator", ["BiasGelu", "FastGelu"])
def test_with_a_bias(operator: str) -> None:
    check(operator, {"x": X, "bias": values(8)})


@pytest.mark.parametrize("alpha", [1.0, 0.5, 1.702])
def test_numbers(alpha: float) -> None:
    check("QuickGelu", {"x": X}, alpha=alpha)
    check("ScaledSiLU", {"x": X}, alpha=alpha)


def test_bias_and_residual() -> None:
    bias, skip = values(8), values(2, 3, 8)
    found = our("BiasAdd", {"x": X, "bias": bias, "skip": skip})[0]
    np.testing.assert_allclose(found, X + bias + skip, rtol=1e-6)


def test_bias_split_gelu() -> None:
    bias = values(8)
    found = our("BiasSplitGelu", {"x": X, "bias": bias})[0]
    left, right = np.split(X + bias, 2, -1)
    wanted = left * functional.gelu(torch.from_numpy(right)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shape", "inner"), [((2, 1, 1, 5), 1), ((1, 1, 3, 5), 0), ((2, 4, 3, 5), 0)])
def test_bias_softmax(shape: tuple[int, ...], inner: int) -> None:
    scores, bias = values(2, 4, 3, 5), values(*shape)
    found = our("BiasSoftmax", {"x": scores, "bias": bias}, axis=3, is_inner_broadcast=inner)[0]
    wanted = torch.softmax(torch.from_numpy(scores + bias), -1)
    torch.testing.assert_close(found, wanted)


def test_bias_softmax_over_two_axes() -> None:
    scores, bias = values(2, 4, 3, 5), values(1, 1, 3, 5)
    found = our("BiasSoftmax", {"x": scores, "bias": bias}, axis=2, is_inner_broadcast=0)[0]
    torch.testing.assert_close(found.sum((2, 3)), torch.ones(2, 4))


def test_dropouts_drop_nothing_in_either_mode() -> None:
    inputs = {"x": X, "bias": values(8), "residual": values(2, 3, 8)}
    proto = model("BiasDropout", inputs, 2, domain=MICROSOFT, types={"y1": 9})
    for training in (True, False):
        y, mask = computed(compile_graph(proto).train(training), proto, inputs)
        np.testing.assert_allclose(y, X + inputs["bias"] + inputs["residual"], rtol=1e-6)
        assert mask.dtype is torch.bool
        assert bool(mask.all())
    proto = model("BitmaskDropout", {"x": X}, domain=MICROSOFT)
    np.testing.assert_array_equal(computed(compile_graph(proto).train(), proto, {"x": X})[0], X)


@pytest.mark.parametrize(("operator", "place"), [("BiasDropout", "mode"), ("BitmaskDropout", "mode")])
def test_a_dropout_that_is_set_to_training_is_refused_by_name(operator: str, place: str) -> None:
    bias = {"bias": values(8), "residual": None} if operator == "BiasDropout" else {}
    inputs = {"x": X, **bias, "ratio": np.float32(0.5).reshape(()), place: np.array(True)}
    with pytest.raises(UnsupportedOperatorError, match="training mode"):
        compile_graph(model(operator, inputs, domain=MICROSOFT, constants=["ratio", place]))
    inputs[place] = np.array(False)
    compile_graph(model(operator, inputs, domain=MICROSOFT, constants=["ratio", place]))


def test_a_packed_dropout_mask_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedOperatorError, match="packed mask"):
        compile_graph(model("BitmaskDropout", {"x": X}, 2, domain=MICROSOFT, types={"y1": 12}))
