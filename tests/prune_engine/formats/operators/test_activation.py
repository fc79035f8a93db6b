"""Activation functions and the softmax family."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper

from prune_engine.formats.importer import compile_graph
from tests.prune_engine.formats.graphs import FLOAT
from tests.prune_engine.formats.operators.one_node import agree, by_reference, gradient_agrees, holds, model
from tests.prune_engine.formats.running import distance, run

RANDOM = np.random.default_rng(11)
X = ((RANDOM.permutation(60).reshape(3, 4, 5) - 30) / 10 + 0.04).astype(np.float32)  # away from every kink


@pytest.mark.parametrize(
    ("operator", "options"),
    [
        ("Relu", {}),
        ("Sigmoid", {}),
        ("Tanh", {}),
        ("Softplus", {}),
        ("Softsign", {}),
        ("HardSwish", {}),
        ("LeakyRelu", {}),
        ("LeakyRelu", {"alpha": 0.3}),
        ("Elu", {"alpha": 0.7}),
        ("Celu", {"alpha": 1.7}),
        ("Selu", {}),
        ("Selu", {"alpha": 1.2, "gamma": 0.9}),
        ("ThresholdedRelu", {"alpha": 0.6}),
        ("HardSigmoid", {}),
        ("HardSigmoid", {"alpha": 0.1666666716337204, "beta": 0.5}),
        ("Shrink", {"lambd": 0.6, "bias": 0.2}),
    ],
)
def test_activations(operator: str, options: dict[str, Any]) -> None:
    holds(operator, {"x": X}, opset=17, **options)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(approximate: str) -> None:
    holds("Gelu", {"x": X}, opset=20, approximate=approximate)


def test_mish() -> None:
    holds("Mish", {"x": X}, opset=18)


@pytest.mark.parametrize("alpha", [1.0, 1.7])
def test_swish_and_its_gated_form(alpha: float) -> None:
    for operator, inputs in (("Swish", {"x": X}), ("SwiGLU", {"gate": X, "value": X[::-1].copy()})):
        proto = model(operator, inputs, opset=28, alpha=alpha)
        agree(proto, inputs, by_reference(proto, inputs))
        gradient_agrees(proto, inputs)


@pytest.mark.parametrize("shape", [(5,), (1, 1), (4, 1), (3, 4, 5)])
def test_slopes_broadcast(shape: tuple[int, ...]) -> None:
    slope = RANDOM.standard_normal(shape).astype(np.float32)
    holds("PRelu", {"x": X, "slope": slope}, opset=16)


def test_before_opset_7_slopes_belong_to_the_channels() -> None:
    slope = RANDOM.standard_normal(4).astype(np.float32)
    inputs = {"x": X, "slope": slope}
    agree(model("PRelu", inputs, opset=6), inputs, [np.where(X < 0, X * slope[:, None], X)])


@pytest.mark.parametrize("opset", [12, 13])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
def test_softmax_of_one_axis_or_before_opset_13_of_all_from_it_on(
    operator: str, axis: int, opset: int
) -> None:
    holds(operator, {"x": X}, opset=opset, axis=axis)


@pytest.mark.parametrize("opset", [12, 13])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_of_equal_values_the_first_is_the_hard_maximum(axis: int, opset: int) -> None:
    x = RANDOM.integers(0, 3, (3, 4, 5)).astype(np.float32)
    holds("Hardmax", {"x": x}, gradient=False, opset=opset, axis=axis)


def test_rows_without_any_key_have_a_gradient_of_zero() -> None:
    """torch's exporters write attention so: a softmax, and 0 where it is NaN."""
    graph = helper.make_graph(
        [
            helper.make_node("Softmax", ["x"], ["weights"], axis=-1),
            helper.make_node("IsNaN", ["weights"], ["masked"]),
            helper.make_node("Where", ["masked", "zero", "weights"], ["y"]),
        ],
        "attention",
        [helper.make_tensor_value_info("x", FLOAT, [3, 4])],
        [helper.make_tensor_value_info("y", FLOAT, [3, 4])],
        [helper.make_tensor("zero", FLOAT, [], [0.0])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = torch.randn(3, 4)
    x[0, 1] = -torch.inf
    x[1] = -torch.inf
    x.requires_grad_()
    (found,) = compile_graph(proto)(x)
    assert distance([found], run(proto, x.detach())) < 1e-6
    (found * torch.arange(4.0)).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad[0].any()
    assert not x.grad[1].any()
