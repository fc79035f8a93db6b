"""Choosing boxes and pooling regions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.prune_engine.formats.operators.one_node import gradient_agrees, holds, model

RANDOM = np.random.default_rng(2)
INT64 = {"y0": 7}


def boxes(count: int) -> np.ndarray:
    """Corners in any order."""
    return RANDOM.uniform(0, 1, (2, count, 4)).astype(np.float32)


def scalar(value: float, dtype: Any = np.float32) -> np.ndarray:
    return np.array([value], dtype)


@pytest.mark.parametrize("centred", [0, 1])
@pytest.mark.parametrize(
    ("most", "overlap", "least"),
    [(3, 0.5, 0.3), (50, 0.1, None), (50, 0.0, 0.5), (0, 0.5, None), (4, None, None)],
)
def test_the_boxes_kept(centred: int, most: int, overlap: float | None, least: float | None) -> None:
    inputs = {
        "boxes": boxes(30),
        "scores": RANDOM.uniform(0, 1, (2, 3, 30)).astype(np.float32),
        "most": scalar(most, np.int64),
        "overlap": None if overlap is None else scalar(overlap),
        "least": None if least is None else scalar(least),
    }
    holds("NonMaxSuppression", inputs, gradient=False, opset=11, types=INT64, center_point_box=centred)


def test_of_equal_scores_the_first_box_comes_first() -> None:
    inputs = {
        "boxes": np.array([[[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5]]], np.float32),
        "scores": np.full((1, 1, 3), 0.5, np.float32),
        "most": scalar(2, np.int64),
        "overlap": scalar(0.5),
    }
    holds("NonMaxSuppression", inputs, gradient=False, opset=11, types=INT64)


def regions() -> dict[str, np.ndarray]:
    corners = np.array(
        [
            [1.2, 0.7, 9.1, 11.3],
            [-3.0, -2.0, 5.0, 6.0],
            [6.0, 5.0, 20.0, 17.3],
            [2.0, 2.0, 2.5, 2.5],
            [8, 8, 4, 4],
        ],
        np.float32,
    )
    return {
        "x": RANDOM.standard_normal((2, 3, 10, 12)).astype(np.float32),
        "rois": corners,
        "batch": np.array([0, 1, 0, 1, 1]),
    }


@pytest.mark.parametrize("how", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_aligned_regions(mode: str, ratio: int, how: str) -> None:
    holds(
        "RoiAlign",
        regions(),
        gradient=False,
        opset=16,
        mode=mode,
        sampling_ratio=ratio,
        coordinate_transformation_mode=how,
        output_height=3,
        output_width=2,
        spatial_scale=0.8,
    )


def test_before_opset_16_pixels_are_not_centred() -> None:
    holds("RoiAlign", regions(), gradient=False, opset=10, output_height=2, output_width=2, sampling_ratio=2)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_the_gradient_of_aligned_regions(mode: str) -> None:
    """Where no sample lies on a border between pixels, the gradient reaches the corners too."""
    corners = np.array([[0.7, 0.7, 4.7, 4.7], [2.6, 1.6, 6.6, 5.6]], np.float32)
    inputs = regions() | {"rois": corners, "batch": np.array([0, 1])}
    options = {"output_height": 2, "output_width": 2, "sampling_ratio": 2}
    gradient_agrees(model("RoiAlign", inputs, opset=16, mode=mode, **options), inputs)


def test_pooled_regions() -> None:
    rows = [[0, 1, 1, 8, 9], [1, 0, 0, 3, 2], [1, 5, 5, 20, 20], [0, 4, 4, 2, 2]]
    inputs = {
        "x": RANDOM.standard_normal((2, 3, 10, 12)).astype(np.float32),
        "rois": np.array(rows, np.float32),
    }
    holds("MaxRoiPool", inputs, gradient=False, opset=13, pooled_shape=[3, 2])
    holds("MaxRoiPool", inputs, gradient=False, opset=13, pooled_shape=[2, 2], spatial_scale=0.5)
