"""Pooling over windows, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from prune_engine.errors import UnsupportedOperatorError
from prune_engine.formats.importer import compile_graph
from tests.prune_engine.formats.operators.one_node import agree, holds, model

RANDOM = np.random.default_rng(21)
X = (RANDOM.permutation(2 * 3 * 9 * 8).reshape(2, 3, 9, 8) / 40 - 5).astype(np.float32)
FRAMES: list[dict[str, Any]] = [
    {"kernel_shape": [2, 2]},
    {"kernel_shape": [3, 2], "strides": [2, 3]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [0, 1, 2, 0]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3, 3], "strides": [3, 2], "auto_pad": "VALID"},
    {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 3], "dilations": [2, 2]},
    {"kernel_shape": [3, 2], "dilations": [2, 1], "strides": [2, 2], "pads": [1, 0, 2, 1], "ceil_mode": 1},
]


@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_the_largest(frame: dict[str, Any]) -> None:
    holds("MaxPool", {"x": X}, opset=19, **frame)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("frame", [f for f in FRAMES if "ceil_mode" not in f], ids=str)
def test_the_largest_with_its_place(frame: dict[str, Any], order: int) -> None:
    holds("MaxPool", {"x": X}, 2, opset=19, types={"y1": 7}, storage_order=order, **frame)


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_the_mean(frame: dict[str, Any], include: int) -> None:
    holds("AveragePool", {"x": X}, opset=19, count_include_pad=include, **frame)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("frame", [f for f in FRAMES if "ceil_mode" not in f], ids=str)
def test_norms(frame: dict[str, Any], p: int) -> None:
    holds("LpPool", {"x": np.abs(X) + 0.5}, opset=18, p=p, **frame)


@pytest.mark.parametrize("shape", [(2, 3, 7), (1, 2, 5, 4, 6)])
def test_one_and_three_axes(shape: tuple[int, ...]) -> None:
    x = RANDOM.permutation(int(np.prod(shape))).reshape(shape).astype(np.float32) / 20
    frame = {"kernel_shape": [2] * (len(shape) - 2), "pads": [0, 1][:1] * 2 * (len(shape) - 2)}
    for operator in ("MaxPool", "AveragePool", "LpPool"):
        holds(operator, {"x": x}, opset=18, **frame)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_the_largest_of_integers(dtype: Any) -> None:
    x = RANDOM.integers(0, 100, (1, 2, 6, 6)).astype(dtype)
    kind = {"y0": 3 if dtype is np.int8 else 2}
    options = {"kernel_shape": [3, 3], "pads": [1, 1, 0, 0], "strides": [2, 2]}
    holds("MaxPool", {"x": x}, gradient=False, opset=13, types=kind, **options)


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
def test_whole_maps(operator: str) -> None:
    holds(operator, {"x": X}, opset=17)


@pytest.mark.parametrize("options", [{}, {"pads": [1, 0, 0, 1], "strides": [2, 2]}])
def test_back_to_where_the_largest_were(options: dict[str, Any]) -> None:
    strides, pads = options.get("strides", [1, 1]), options.get("pads", [0] * 4)
    height, width = (
        (n - 1) * s - pads[i] - pads[i + 2] + 2 for i, (n, s) in enumerate(zip((3, 4), strides, strict=True))
    )
    x = RANDOM.standard_normal((1, 2, 3, 4)).astype(np.float32)
    places = np.stack(
        [RANDOM.permutation(height * width)[:12].reshape(3, 4) + i * height * width for i in range(2)]
    )
    holds("MaxUnpool", {"x": x, "places": places[None]}, opset=11, kernel_shape=[2, 2], **options)


def test_the_norm_of_zeros_has_a_finite_gradient() -> None:
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    module = compile_graph(model("LpPool", {"x": x.detach().numpy()}, opset=18, kernel_shape=[2, 2]))
    module(x)[0].sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool"])
def test_without_spatial_axes_nothing_is_pooled(operator: str) -> None:
    x = X[:, :, 0, 0].copy()
    agree(model(operator, {"x": x}, opset=17), {"x": x}, [x])


def test_windows_over_four_axes_are_refused_by_name() -> None:
    x = np.zeros((1, 1, 2, 2, 2, 2), np.float32)
    with pytest.raises(UnsupportedOperatorError, match="4 spatial axes"):
        compile_graph(model("MaxPool", {"x": x}, opset=13, kernel_shape=[2, 2, 2, 2]))
