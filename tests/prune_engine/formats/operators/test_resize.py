"""Resize and Upsample over their options."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.prune_engine.formats.operators.one_node import agree, by_onnxruntime, gradient_agrees, holds, model

RANDOM = np.random.default_rng(23)
X = RANDOM.standard_normal((1, 2, 5, 6)).astype(np.float32)
COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]
SIZES = [(10, 12), (3, 4), (8, 5), (1, 1), (5, 7)]
SCALES = [(2.0, 2.0), (0.6, 0.7), (1.6, 0.9), (3.0, 1.0)]


def by_size(size: tuple[int, int]) -> dict[str, np.ndarray | None]:
    return {"x": X, "roi": None, "scales": None, "sizes": np.array([1, 2, *size])}


def by_scale(scale: tuple[float, float]) -> dict[str, np.ndarray | None]:
    return {"x": X, "roi": None, "scales": np.array([1, 1, *scale], np.float32)}


@pytest.mark.parametrize("how", COORDINATES)
def test_nearest(how: str) -> None:
    for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        # Of a symmetric place that is whole but for rounding, the order of the operations decides.
        sizes, scales = (SIZES[:1], SCALES[:1]) if "symmetric" in how else (SIZES, SCALES)
        for inputs in [*map(by_size, sizes), *map(by_scale, scales)]:
            options = {"coordinate_transformation_mode": how, "nearest_mode": rounding}
            holds("Resize", inputs, gradient=False, opset=19, **options)


@pytest.mark.parametrize("how", COORDINATES)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_interpolation(mode: str, how: str) -> None:
    for inputs in [*map(by_size, SIZES), *map(by_scale, SCALES)]:
        holds("Resize", inputs, gradient=False, opset=19, mode=mode, coordinate_transformation_mode=how)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("exclude", [0, 1])
def test_antialiasing(mode: str, exclude: int) -> None:
    for how, inputs in product(COORDINATES[:3], [by_size((3, 4)), by_size((2, 9)), by_scale((0.6, 0.5))]):
        proto = model(
            "Resize",
            inputs,
            opset=19,
            mode=mode,
            antialias=1,
            exclude_outside=exclude,
            coordinate_transformation_mode=how,
        )
        agree(proto, inputs, by_onnxruntime(proto, inputs), tolerance=1e-4)


def test_cubic_coefficients() -> None:
    for a, exclude in product((-0.5, -0.75), (0, 1)):
        holds(
            "Resize",
            by_size((8, 9)),
            gradient=False,
            opset=13,
            mode="cubic",
            cubic_coeff_a=a,
            exclude_outside=exclude,
        )


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
def test_the_aspect_ratio(policy: str) -> None:
    inputs = {"x": X, "roi": None, "scales": None, "sizes": np.array([9, 7])}
    for mode in ("nearest", "linear"):
        holds(
            "Resize",
            inputs,
            gradient=False,
            opset=18,
            axes=[2, 3],
            keep_aspect_ratio_policy=policy,
            mode=mode,
        )


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_regions(mode: str) -> None:
    inputs = {
        "x": X,
        "roi": np.array([0, 0, 0.2, 0.3, 1, 1, 0.7, 1.2], np.float32),
        "scales": None,
        "sizes": np.array([1, 2, 4, 5]),
    }
    options = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 7.0}
    holds("Resize", inputs, gradient=False, opset=13, mode=mode, **options)


@pytest.mark.parametrize("shape", [(2, 3, 7), (1, 2, 3, 4, 5), (4, 6)])
def test_other_ranks(shape: tuple[int, ...]) -> None:
    x = RANDOM.standard_normal(shape).astype(np.float32)
    scales = (
        [1.0] * (len(shape) - 2) + [2.0, 1.5] if len(shape) == 2 else [1.0, 1.0, *[2.0] * (len(shape) - 2)]
    )
    inputs = {"x": x, "roi": None, "scales": np.array(scales, np.float32)}
    for mode in ("nearest", "linear"):
        holds("Resize", inputs, gradient=False, opset=13, mode=mode)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_gradients(mode: str) -> None:
    inputs = by_size((8, 4))
    gradient_agrees(model("Resize", inputs, opset=19, mode=mode, constants=("sizes",)), inputs)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_the_old_upsample(mode: str) -> None:
    scales = np.array([1, 1, 2, 3], np.float32)
    holds("Upsample", {"x": X}, opset=8, mode=mode, scales=scales.tolist())
    holds("Upsample", {"x": X, "scales": scales}, gradient=False, opset=9, mode=mode)
    holds("Resize", {"x": X, "scales": scales}, gradient=False, opset=10, mode=mode)
