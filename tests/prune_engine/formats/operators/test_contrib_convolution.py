"""onnxruntime's fused convolutions against onnxruntime, or against ONNX's own where it has no kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from prune_engine.formats.importer import compile_graph, import_onnx
from tests.prune_engine.formats.operators.one_node import (
    MICROSOFT,
    Inputs,
    agree,
    by_onnxruntime,
    computed,
    gradient_agrees,
    model,
)

RANDOM = np.random.default_rng(19)


def values(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


X, WEIGHT, BIAS = values(2, 3, 7, 7), values(4, 3, 3, 3), values(4)


def check(operator: str, inputs: Inputs, outputs: int = 1, gradient: bool = False, **options: Any) -> None:
    proto = model(operator, inputs, outputs, domain=MICROSOFT, **options)
    agree(proto, inputs, by_onnxruntime(proto, inputs), 1e-4)
    if gradient:
        gradient_agrees(proto, inputs)


@pytest.mark.parametrize(
    ("activation", "numbers"),
    [
        (None, None),
        ("Relu", None),
        ("Sigmoid", None),
        ("Tanh", None),
        ("HardSwish", None),
        ("LeakyRelu", [0.2]),
        ("Clip", [-0.3, 0.4]),
        ("HardSigmoid", [0.3, 0.4]),
    ],
)
@pytest.mark.parametrize("added", [True, False])
def test_activations(added: bool, activation: str | None, numbers: list[float] | None) -> None:
    inputs = {"x": X, "w": WEIGHT, "b": BIAS, "z": values(2, 4, 4, 4) if added else None}
    options: dict[str, Any] = {"activation": activation} if activation else {}
    options |= {"activation_params": numbers} if numbers else {}
    smooth = activation in (None, "Sigmoid", "Tanh")
    check("FusedConv", inputs, 1, smooth, pads=[1, 1, 1, 1], strides=[2, 2], kernel_shape=[3, 3], **options)


def test_shapes_groups_and_automatic_pads() -> None:
    check("FusedConv", {"x": X, "w": WEIGHT}, activation="Relu")
    check("FusedConv", {"x": values(2, 4, 7, 7), "w": values(4, 2, 3, 3)}, group=2, auto_pad="SAME_UPPER")
    check("FusedConv", {"x": values(2, 3, 7), "w": values(4, 3, 3)}, activation="Relu")


def last(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


@pytest.mark.parametrize("operator", ["NhwcConv", "NhwcFusedConv"])
def test_channels_last(operator: str) -> None:
    z = values(2, 4, 5, 5)
    first = {"x": X, "w": WEIGHT, "b": BIAS}
    extra: dict[str, Any] = {}
    inputs = {"x": last(X), "w": WEIGHT, "b": BIAS}
    if operator == "NhwcFusedConv":
        first, inputs, extra = {**first, "z": z}, {**inputs, "z": last(z)}, {"activation": "Tanh"}
    wanted = by_onnxruntime(model("FusedConv", first, domain=MICROSOFT, **extra), first)[0]
    proto = model(operator, inputs, domain=MICROSOFT, **extra)
    agree(proto, inputs, [last(wanted)], 1e-4)
    gradient_agrees(proto, inputs)


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_max_pool_with_channels_last(kind: type) -> None:
    inputs = {"x": last(RANDOM.integers(0, 100, X.shape).astype(kind))}
    types = {"y0": 3 if kind is np.int8 else 2}
    for options in ({"strides": [2, 2], "pads": [0, 0, 1, 1]}, {"ceil_mode": 1, "strides": [2, 2]}, {}):
        check("NhwcMaxPool", inputs, kernel_shape=[2, 2], types=types, **options)


def test_pads_as_an_input() -> None:
    inputs = {"x": X, "w": values(3, 4, 3, 3), "pads": np.array([1, 0, 1, 1]), "b": BIAS}
    options = {"strides": [2, 2], "output_padding": [1, 0]}
    for constants in ([], ["pads"], ["pads", "w"]):
        proto = model(
            "ConvTransposeWithDynamicPads", inputs, domain=MICROSOFT, constants=constants, **options
        )
        agree(proto, inputs, by_onnxruntime(proto, inputs), 1e-4)
    gradient_agrees(proto, inputs)
    assert [(w.kind, w.output_axis) for w in import_onnx(proto).prunable] == [("ConvTranspose", 1)]
    module = compile_graph(model("ConvTransposeWithDynamicPads", inputs, domain=MICROSOFT, **options))
    for pads in ([0, 0, 0, 0], [1, 1, 1, 1]):
        changed = {**inputs, "pads": np.array(pads)}
        proto = model("ConvTransposeWithDynamicPads", changed, domain=MICROSOFT, **options)
        assert computed(module, proto, changed)[0].shape == by_onnxruntime(proto, changed)[0].shape


@pytest.mark.parametrize("operator", ["FusedConv", "NhwcConv"])
def test_the_weight_is_prunable_and_the_bias_trained(operator: str) -> None:
    inputs = {"x": X if operator == "FusedConv" else last(X), "w": WEIGHT, "b": BIAS}
    module = import_onnx(model(operator, inputs, domain=MICROSOFT, constants=["w", "b"]))
    assert [(w.name, w.kind, w.output_axis) for w in module.prunable] == [("w", "Conv", 0)]
    assert set(module.weights) == {"w", "b"}


def test_unique_values_in_the_order_of_the_file() -> None:
    inputs = {"x": np.array([2.0, 1, 1, 3, 4, 3], np.float32)}
    check("Unique", inputs, 3, types={"y1": 7, "y2": 7})


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample(mode: str) -> None:
    grid = RANDOM.uniform(-1, 1, (2, 4, 5, 2)).astype(np.float32)
    for padding in ("zeros", "border", "reflection"):
        check("GridSample", {"x": X, "grid": grid}, mode=mode, padding_mode=padding)


def test_operators_that_onnx_took_over() -> None:
    square = values(2, 4, 4)
    check("Trilu", {"x": square}, upper=0)
    check("Trilu", {"x": square, "k": np.array(1)}, constants=["k"])
    check("GatherND", {"x": values(3, 4), "ids": np.array([[0, 1], [2, 3]])})
    check("Pad", {"x": values(3, 4), "pads": np.array([0, 2, 0, 1])}, constants=["pads"])
