"""Normalisation layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from prune_engine.errors import UnsupportedOperatorError
from prune_engine.formats.importer import compile_graph
from tests.prune_engine.formats.operators.one_node import agree, by_reference, gradient_agrees, holds, model

RANDOM = np.random.default_rng(35)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


X = normal(2, 4, 5, 3)
PER_CHANNEL = {"scale": normal(4), "bias": normal(4)}


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (2, 4, 3, 2, 2)])
@pytest.mark.parametrize("opset", [8, 13, 15])
def test_batches(opset: int, shape: tuple[int, ...]) -> None:
    inputs = {"x": normal(*shape), **PER_CHANNEL, "mean": normal(4), "var": np.abs(normal(4)) + 0.5}
    holds("BatchNormalization", inputs, opset=opset, epsilon=1e-3)


def test_batches_as_they_are_trained() -> None:
    inputs = {"x": X, **PER_CHANNEL, "mean": normal(4), "var": np.abs(normal(4)) + 0.5}
    holds("BatchNormalization", inputs, 3, opset=15, training_mode=1, momentum=0.7)


def test_statistics_of_every_element_are_refused_by_name() -> None:
    inputs = {"x": normal(2, 4), **PER_CHANNEL, "mean": normal(4), "var": np.abs(normal(4))}
    with pytest.raises(UnsupportedOperatorError, match="spatial=0"):
        compile_graph(model("BatchNormalization", inputs, opset=8, spatial=0))


def test_instances() -> None:
    holds("InstanceNormalization", {"x": X, **PER_CHANNEL}, opset=13, epsilon=1e-3)


@pytest.mark.parametrize("axis", [1, 2, -1])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("outputs", [1, 3])
def test_layers(outputs: int, shifted: bool, axis: int) -> None:
    inputs = {"x": X, "scale": normal(*X.shape[axis:]), "bias": normal(*X.shape[axis:]) if shifted else None}
    holds("LayerNormalization", inputs, outputs, opset=17, axis=axis)


def test_the_scale_of_a_layer_broadcasts() -> None:
    inputs = {"x": X, "scale": normal(3), "bias": normal(1)}
    proto = model("LayerNormalization", inputs, opset=17, axis=-2)
    agree(proto, inputs, by_reference(proto, inputs))


@pytest.mark.parametrize("axis", [2, -1])
def test_root_mean_square(axis: int) -> None:
    inputs = {"x": X, "scale": normal(*X.shape[axis:])}
    proto = model("RMSNormalization", inputs, opset=23, axis=axis, epsilon=1e-4)
    agree(proto, inputs, by_reference(proto, inputs))
    gradient_agrees(proto, inputs)


@pytest.mark.parametrize(("opset", "size"), [(18, 2), (21, 4)])
def test_groups(opset: int, size: int) -> None:
    inputs = {"x": X, "scale": normal(size), "bias": normal(size)}
    proto = model("GroupNormalization", inputs, opset=opset, num_groups=2)
    agree(proto, inputs, by_reference(proto, inputs))
    gradient_agrees(proto, inputs)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_neighbouring_channels(size: int) -> None:
    holds("LRN", {"x": X}, opset=13, size=size, alpha=0.3, beta=0.6, bias=1.5)


@pytest.mark.parametrize("shape", [(2, 6, 4, 3), (2, 6, 3)])
@pytest.mark.parametrize("size", [2, 4])
def test_of_an_even_number_of_channels_one_more_lies_behind(size: int, shape: tuple[int, ...]) -> None:
    """onnxruntime takes odd numbers only."""
    x = normal(*shape)
    squares = np.pad(x**2, [(0, 0), ((size - 1) // 2, size // 2)] + [(0, 0)] * (len(shape) - 2))
    total = sum(squares[:, i : i + 6] for i in range(size))
    proto = model("LRN", {"x": x}, opset=13, size=size, alpha=0.3, beta=0.6, bias=1.5)
    agree(proto, {"x": x}, [x / (1.5 + 0.3 / size * total) ** 0.6])
    gradient_agrees(proto, {"x": x})


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("p", [1, 2])
def test_unit_norm(p: int, axis: int) -> None:
    holds("LpNormalization", {"x": X}, opset=13, p=p, axis=axis)


@pytest.mark.parametrize("options", [{}, {"axes": [1, 2]}, {"axes": [-1]}])
def test_mean_and_variance(options: dict[str, Any]) -> None:
    holds("MeanVarianceNormalization", {"x": X}, opset=13, **options)


def test_equal_values_have_a_finite_gradient() -> None:
    x = torch.ones(1, 2, 2, 2, requires_grad=True)
    compile_graph(model("MeanVarianceNormalization", {"x": x.detach().numpy()}, opset=13))(x)[
        0
    ].sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_instances_of_one_element() -> None:
    holds("InstanceNormalization", {"x": normal(2, 4, 1, 1), **PER_CHANNEL}, opset=13)
