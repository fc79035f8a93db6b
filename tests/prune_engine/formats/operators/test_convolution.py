"""Convolution and its transpose over their options."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.prune_engine.formats.operators.one_node import agree, by_onnxruntime, gradient_agrees, holds, model

RANDOM = np.random.default_rng(34)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"strides": [2, 1]},
    {"pads": [1, 1, 1, 1], "dilations": [2, 1]},
    {"pads": [0, 1, 2, 0], "strides": [2, 2]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"auto_pad": "SAME_LOWER", "strides": [3, 2]},
    {"auto_pad": "VALID"},
]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_convolution(options: dict[str, Any], groups: int, named: bool) -> None:
    inputs = {"x": normal(2, 4, 8, 7), "w": normal(6, 4 // groups, 3, 2), "b": normal(6) if named else None}
    shape = {"kernel_shape": [3, 2]} if named else {}
    holds("Conv", inputs, opset=13, group=groups, **shape, **options)


@pytest.mark.parametrize("rank", [1, 3])
def test_one_and_three_axes(rank: int) -> None:
    sizes = (9, 6, 5)[:rank]
    options = {"strides": [2] * rank, "pads": [1, 0, 0][:rank] + [0, 1, 1][:rank]}
    for operator in ("Conv", "ConvTranspose"):
        inputs = {"x": normal(2, 4, *sizes), "w": normal(4, 4, *(3, 2, 2)[:rank]), "b": normal(4)}
        holds(operator, inputs, gradient=False, opset=13, **options)
        gradient_agrees(model(operator, inputs, opset=13, **options), inputs, width=0.3)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": [2, 3]},
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
        {"strides": [2, 2], "pads": [0, 1, 2, 0]},
        {"dilations": [2, 1], "pads": [1, 0, 1, 0]},
        {"strides": [3, 3], "output_padding": [2, 1], "pads": [1, 0, 0, 1]},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
        {"strides": [2, 3], "output_shape": [10, 12]},
        {"strides": [2, 3], "output_shape": [11, 13], "auto_pad": "SAME_UPPER"},
        {"strides": [2, 2], "auto_pad": "VALID"},
    ],
    ids=str,
)
def test_the_transpose(options: dict[str, Any], groups: int) -> None:
    inputs = {"x": normal(2, 4, 5, 4), "w": normal(4, 6 // groups, 3, 3), "b": normal(6)}
    proto = model("ConvTranspose", inputs, opset=13, group=groups, **options)
    agree(proto, inputs, by_onnxruntime(proto, inputs))
    gradient_agrees(proto, inputs)
