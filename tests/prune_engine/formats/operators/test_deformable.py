"""Deformable convolution, and columns back to images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.prune_engine.formats.operators.one_node import gradient_agrees, holds, model

RANDOM = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("groups", "offset_groups", "options"),
    [
        (1, 1, {}),
        (2, 1, {"pads": [1, 1, 1, 1]}),
        (1, 2, {"strides": [2, 1]}),
        (2, 2, {"dilations": [2, 1], "pads": [2, 1, 1, 0]}),
    ],
)
def test_deformable_convolution(
    groups: int, offset_groups: int, options: dict[str, Any], masked: bool
) -> None:
    pads, strides = options.get("pads", [0] * 4), options.get("strides", [1, 1])
    dilations = options.get("dilations", [1, 1])
    height, width = (
        (n + pads[i] + pads[i + 2] - dilations[i] * (k - 1) - 1) // strides[i] + 1
        for i, (n, k) in enumerate([(7, 3), (6, 2)])
    )
    inputs = {
        "x": normal(2, 4, 7, 6),
        "w": normal(6, 4 // groups, 3, 2),
        "offset": normal(2, offset_groups * 12, height, width),
        "b": normal(6),
        "mask": normal(2, offset_groups * 6, height, width) if masked else None,
    }
    holds("DeformConv", inputs, gradient=False, opset=19, group=groups, offset_group=offset_groups, **options)


def test_the_gradient_reaches_offsets_and_mask() -> None:
    inputs = {
        "x": normal(1, 2, 5, 5),
        "w": normal(2, 2, 2, 2),
        "offset": RANDOM.uniform(0.2, 0.8, (1, 8, 4, 4)).astype(np.float32),
        "b": None,
        "mask": normal(1, 4, 4, 4),
    }
    gradient_agrees(model("DeformConv", inputs, opset=19), inputs)


@pytest.mark.parametrize(
    ("image", "block", "options"),
    [
        ([5, 6], [2, 3], {}),
        ([5, 6], [2, 2], {"strides": [2, 1], "pads": [1, 0, 0, 1], "dilations": [1, 2]}),
        ([4, 5, 3], [2, 2, 2], {}),
    ],
)
def test_columns_add_up_to_an_image(image: list[int], block: list[int], options: dict[str, Any]) -> None:
    rank = len(image)
    pads, strides = options.get("pads", [0] * 2 * rank), options.get("strides", [1] * rank)
    dilations = options.get("dilations", [1] * rank)
    windows = np.prod(
        [
            (image[i] + pads[i] + pads[i + rank] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1
            for i in range(rank)
        ]
    )
    inputs = {
        "x": normal(2, 3 * int(np.prod(block)), windows),
        "image": np.array(image),
        "block": np.array(block),
    }
    holds("Col2Im", inputs, opset=18, constants=("image", "block"), **options)
