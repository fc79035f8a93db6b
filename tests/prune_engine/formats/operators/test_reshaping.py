"""Operators that move or retype elements."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prune_engine.formats.importer import compile_graph
from tests.prune_engine.formats.operators.one_node import agree, by_reference, holds, model

RANDOM = np.random.default_rng(31)
X = RANDOM.standard_normal((2, 3, 4)).astype(np.float32)


@pytest.mark.parametrize("shape", [[6, 4], [0, -1], [4, 0, 2], [-1], [2, 1, 3, -1], [0, 0, 0]])
@pytest.mark.parametrize("known", [False, True])
def test_reshape(known: bool, shape: list[int]) -> None:
    if shape == [4, 0, 2]:
        shape = [4, 0, -1]
    holds("Reshape", {"x": X, "s": np.array(shape)}, opset=13, constants=("s",) if known else ())


def test_zeros_in_a_shape_may_be_meant() -> None:
    inputs = {"x": np.zeros((0, 3), np.float32), "s": np.array([3, 0])}
    holds("Reshape", inputs, gradient=False, opset=14, allowzero=1)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_flatten(axis: int) -> None:
    holds("Flatten", {"x": X}, opset=13, axis=axis)


@pytest.mark.parametrize("perm", [None, [2, 0, 1], [0, 1, 2]])
def test_transpose(perm: list[int] | None) -> None:
    holds("Transpose", {"x": X}, opset=13, **({} if perm is None else {"perm": perm}))


@pytest.mark.parametrize("axes", [None, [0], [-1, 0], [0, 2]])
@pytest.mark.parametrize("opset", [11, 13])
def test_squeeze(opset: int, axes: list[int] | None) -> None:
    x = X.reshape(1, 6, 1, 4)[..., :1]
    if opset == 11:
        axes = None if axes is None else [axis % 4 for axis in axes]
        holds("Squeeze", {"x": x}, opset=11, **({} if axes is None else {"axes": axes}))
    else:
        holds("Squeeze", {"x": x, "axes": None if axes is None else np.array(axes)}, opset=13)


@pytest.mark.parametrize("axes", [[0], [-1], [3, 0], [1, -1], [-1, 1, 0]])
def test_unsqueeze(axes: list[int]) -> None:
    holds("Unsqueeze", {"x": X, "axes": np.array(axes)}, opset=13)
    holds("Unsqueeze", {"x": X}, opset=11, axes=[axis % (3 + len(axes)) for axis in axes])


@pytest.mark.parametrize("shape", [[4], [3, 1], [2, 1, 4], [5, 1, 1, 4], [1], [2, 3, 1]])
def test_expand_broadcasts_both_ways(shape: list[int]) -> None:
    holds("Expand", {"x": X[:, :1].copy(), "s": np.array(shape)}, opset=13)


@pytest.mark.parametrize("repeats", [[1, 2, 3], [2, 1, 1], [0, 1, 1]])
def test_tile(repeats: list[int]) -> None:
    holds("Tile", {"x": X, "r": np.array(repeats)}, gradient=0 not in repeats, opset=13)


def test_before_opset_5_the_shape_was_an_attribute() -> None:
    agree(model("Reshape", {"x": X}, opset=4, shape=[0, -1]), {"x": X}, [X.reshape(2, 12)])


def test_before_opset_6_tiles_went_along_one_axis() -> None:
    inputs = {"x": X, "tiles": np.array(3), "axis": np.array(1)}
    agree(model("Tile", inputs, opset=5), inputs, [np.tile(X, (1, 3, 1))])


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    x = RANDOM.standard_normal((2, 12, 2, 3)).astype(np.float32)
    holds("DepthToSpace", {"x": x}, opset=13, blocksize=2, mode=mode)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_space_to_depth(mode: str) -> None:
    x = RANDOM.standard_normal((2, 3, 4, 6)).astype(np.float32)
    proto = model("SpaceToDepth", {"x": x}, opset=28, blocksize=2, mode=mode)
    agree(proto, {"x": x}, by_reference(proto, {"x": x}))


@pytest.mark.parametrize("opset", [11, 13])
def test_dropout_of_inference_drops_nothing(opset: int) -> None:
    holds("Dropout", {"x": X}, 2, opset=opset, types={"y1": 9})


def test_dropout_of_training_drops_what_its_mask_says() -> None:
    inputs = {"x": np.abs(X) + 1, "ratio": np.array(0.4, np.float32), "mode": np.array(True)}
    module = compile_graph(model("Dropout", inputs, 2, opset=13, types={"y1": 9})).train()
    y, mask = module(*(torch.from_numpy(value) for value in inputs.values()))
    assert 0 < int(mask.sum()) < mask.numel()
    torch.testing.assert_close(y, torch.from_numpy(inputs["x"]) * mask / 0.6)
