"""Taking parts of tensors and putting parts together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.prune_engine.formats.operators.one_node import agree, holds, model

RANDOM = np.random.default_rng(24)
X = (RANDOM.permutation(120).reshape(4, 5, 6) / 20 - 3.0).astype(np.float32)


def other(*shape: int) -> np.ndarray:
    """Values that are far from those of X and from each other, so that extremes have a derivative."""
    return (RANDOM.permutation(int(np.prod(shape))).reshape(shape) / 20 - 1.025).astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather(axis: int) -> None:
    for indices in (np.array([[0, 2], [-1, 3]]), np.array(2), np.array(-1), np.array([1, 1, 0], np.int32)):
        holds("Gather", {"x": X, "i": indices}, opset=13, axis=axis, constants=("i",))
        holds("Gather", {"x": X, "i": indices}, opset=13, axis=axis)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_elements(axis: int) -> None:
    holds("GatherElements", {"x": X, "i": RANDOM.integers(-4, 4, (3, 4, 2))}, opset=13, axis=axis)


@pytest.mark.parametrize(
    ("batch", "shape"), [(0, (2, 1)), (0, (2, 3, 2)), (1, (4, 1)), (1, (4, 3, 2)), (2, (4, 5, 1))]
)
def test_gather_nd(batch: int, shape: tuple[int, ...]) -> None:
    holds("GatherND", {"x": X, "i": RANDOM.integers(-4, 4, shape)}, opset=13, batch_dims=batch)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_scatter_elements(axis: int, reduction: str) -> None:
    x = X[:, :, :4]
    if reduction == "none":  # of equal places, any may win
        indices = np.argsort(RANDOM.standard_normal(x.shape), axis)[:3, :3, :3] % x.shape[axis]
        indices = np.argsort(np.argsort(indices, axis), axis)
    else:
        indices = RANDOM.integers(-4, 4, (3, 3, 3))
    updates = other(*indices.shape)
    inputs = {"x": x, "i": indices, "u": updates}
    holds("ScatterElements", inputs, opset=18, axis=axis, reduction=reduction)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_scatter_nd(depth: int, reduction: str) -> None:
    indices = np.array([[0, 1, 2], [-1, 3, -2], [2, 0, 0]])[:, :depth]
    if reduction != "none":
        indices = np.concatenate([indices, indices[:1]])
    updates = other(len(indices), *X.shape[depth:])
    holds("ScatterND", {"x": X, "i": indices, "u": updates}, opset=18, reduction=reduction)


@pytest.mark.parametrize(
    "bounds",
    [
        ([1], [3], None, None),
        ([0, 1], [-1, 100], [1, 2], [1, 2]),
        ([-1], [-100], [0], [-1]),
        ([3, 4], [0, -6], [-2, -1], [-1, -2]),
        ([2], [2], [1], None),
        ([5], [1], [2], None),
        ([-100], [2**62], [0], [3]),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_slices(known: bool, bounds: tuple[list[int] | None, ...]) -> None:
    names = ("starts", "ends", "axes", "steps")
    inputs = {"x": X} | {n: None if b is None else np.array(b) for n, b in zip(names, bounds, strict=True)}
    constants = [name for name in names if known and inputs[name] is not None]
    holds("Slice", inputs, gradient=False, opset=13, constants=constants)


def test_slices_by_attribute() -> None:
    holds("Slice", {"x": X}, opset=9, starts=[1, -3], ends=[10, -1], axes=[0, 2])


@pytest.mark.parametrize(
    ("opset", "sizes", "options"),
    [
        (13, [1, 3, 2], {}),
        (13, None, {}),
        (18, None, {"num_outputs": 3}),
        (18, None, {"num_outputs": 3, "axis": 1}),
        (11, None, {}),
        (11, [2, 0, 4], {"split": [2, 0, 4]}),
    ],
)
def test_splits(opset: int, sizes: list[int] | None, options: dict[str, Any]) -> None:
    inputs = {"x": X, "sizes": np.array(sizes) if sizes and opset > 12 else None}
    outputs = options.get("num_outputs", 3)
    holds("Split", inputs, outputs, gradient=False, opset=opset, **{"axis": -1, **options})


@pytest.mark.parametrize("axis", [0, 2, -2])
def test_concat(axis: int) -> None:
    holds("Concat", {"a": X, "b": X * 2, "c": X[..., :]}, opset=13, axis=axis)


def test_before_opset_4_parts_were_joined_along_the_channels() -> None:
    inputs = {"a": X, "b": X[:, :2].copy()}
    agree(model("Concat", inputs, opset=3), inputs, [np.concatenate(list(inputs.values()), 1)])


@pytest.mark.parametrize("axis", [None, 1, -1])
def test_compress(axis: int | None) -> None:
    keep = np.array([True, False, True, True])
    options = {} if axis is None else {"axis": axis}
    holds("Compress", {"x": X, "keep": keep}, opset=13, **options)


def test_places_that_are_not_zero() -> None:
    x = RANDOM.integers(0, 2, (3, 4)).astype(np.float32)
    holds("NonZero", {"x": x}, gradient=False, opset=13, types={"y0": 7})


@pytest.mark.parametrize("k", [None, -2, 1, 9])
@pytest.mark.parametrize("upper", [0, 1])
def test_triangles(upper: int, k: int | None) -> None:
    inputs = {"x": X, "k": None if k is None else np.array(k)}
    holds("Trilu", inputs, gradient=k != 9, opset=14, upper=upper)


@pytest.mark.parametrize(("batch", "time"), [(0, 1), (1, 0)])
def test_reversed_sequences(batch: int, time: int) -> None:
    lengths = RANDOM.integers(1, X.shape[time] + 1, X.shape[batch])
    holds("ReverseSequence", {"x": X, "lengths": lengths}, opset=10, batch_axis=batch, time_axis=time)
