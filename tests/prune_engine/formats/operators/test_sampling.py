"""GridSample and AffineGrid."""

from __future__ import annotations

import numpy as np
import pytest

from prune_engine.errors import UnsupportedOperatorError
from prune_engine.formats.importer import compile_graph
from tests.prune_engine.formats.operators.one_node import agree, by_reference, gradient_agrees, holds, model

RANDOM = np.random.default_rng(1)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def grid(*shape: int) -> np.ndarray:
    """Places, some of them outside of the map."""
    return RANDOM.uniform(-1.4, 1.4, shape).astype(np.float32)


@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_images(mode: str, padding_mode: str, align_corners: int) -> None:
    holds(
        "GridSample",
        {"x": normal(2, 3, 5, 6), "grid": grid(2, 4, 3, 2)},
        gradient=False,
        opset=16,
        mode=mode,
        padding_mode=padding_mode,
        align_corners=align_corners,
    )


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_volumes(mode: str, padding_mode: str) -> None:
    inputs = {"x": normal(1, 2, 3, 4, 5), "grid": grid(1, 2, 3, 2, 3)}
    holds("GridSample", inputs, gradient=False, opset=20, mode=mode, padding_mode=padding_mode)


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_one_axis_as_the_specification_says(mode: str) -> None:
    inputs = {"x": normal(2, 3, 6), "grid": grid(2, 4, 1)}
    proto = model("GridSample", inputs, opset=20, mode=mode, align_corners=1)
    agree(proto, inputs, by_reference(proto, inputs))


def test_the_gradient_reaches_the_map_and_the_grid() -> None:
    inputs = {"x": normal(1, 2, 5, 5), "grid": RANDOM.uniform(-0.8, 0.8, (1, 3, 3, 2)).astype(np.float32)}
    gradient_agrees(model("GridSample", inputs, opset=20, mode="cubic"), inputs)


def test_cubic_volumes_are_refused_by_name() -> None:
    inputs = {"x": normal(1, 2, 3, 4, 5), "grid": grid(1, 2, 3, 2, 3)}
    with pytest.raises(UnsupportedOperatorError, match="cubic GridSample of volumes"):
        compile_graph(model("GridSample", inputs, opset=20, mode="cubic"))


@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize("size", [(2, 3, 4, 5), (2, 3, 2, 4, 5)])
def test_affine_grids(size: tuple[int, ...], align_corners: int) -> None:
    rank = len(size) - 2
    inputs = {"theta": normal(2, rank, rank + 1), "size": np.array(size)}
    holds("AffineGrid", inputs, opset=20, align_corners=align_corners, constants=("size",))
