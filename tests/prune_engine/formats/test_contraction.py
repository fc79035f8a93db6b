"""Along which axis a node sums over its inputs: that of the initializer, behind whatever moves it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from prune_engine.formats import import_onnx
from prune_engine.formats.weights import PrunableWeight
from tests.prune_engine.formats.graphs import model, values

node = helper.make_node


def prunable(nodes: list[onnx.NodeProto], weight: tuple[int, ...], *shape: int | str) -> PrunableWeight:
    """The weight w of a graph that takes x."""
    constants = {"w": values(*weight), "s": np.array([4, 3])}
    return import_onnx(model(nodes, constants, shape=shape)).prunable[0]


@pytest.mark.parametrize(
    ("nodes", "shape", "axes"),
    [
        ([node("Gemm", ["x", "w"], ["y"], transB=1)], (3, 4), (0, 1)),
        ([node("Gemm", ["x", "w"], ["y"])], (4, 3), (1, 0)),
        ([node("MatMul", ["x", "w"], ["y"])], (4, 3), (1, 0)),
        ([node("MatMul", ["x", "w"], ["y"])], (5, 4, 3), (2, 1)),
        ([node("Transpose", ["w"], ["t"], perm=[1, 0]), node("MatMul", ["x", "t"], ["y"])], (3, 4), (0, 1)),
        ([node("Reshape", ["w", "s"], ["t"]), node("MatMul", ["x", "t"], ["y"])], (1, 4, 3), (2, 1)),
        ([node("Einsum", ["x", "w"], ["y"], equation="nd,hd->nh")], (3, 4), (0, 1)),
        ([node("Einsum", ["x", "w"], ["y"], equation="...d,hd->...h")], (3, 4), (0, 1)),
        ([node("Transpose", ["x"], ["t"]), node("MatMul", ["w", "t"], ["y"])], (3, 4), (0, 1)),
        ([node("MatMul", ["x", "w"], ["y"])], (4,), (0, None)),
    ],
)
def test_the_input_axis_is_that_of_the_initializer(
    nodes: list[onnx.NodeProto], shape: tuple[int, ...], axes: tuple[int, int | None]
) -> None:
    weight = prunable(nodes, shape, "n", 4)
    assert (weight.shape, weight.output_axis, weight.input_axis) == (shape, *axes)


@pytest.mark.parametrize(("operator", "axis"), [("Conv", 1), ("ConvTranspose", 0)])
def test_convolutions_say_their_groups(operator: str, axis: int) -> None:
    weight = prunable([node(operator, ["x", "w"], ["y"], group=2)], (4, 2, 3, 3), "n", 4, 8, 8)
    assert (weight.input_axis, weight.groups) == (axis, 2)


def test_a_weight_whose_users_sum_over_different_axes_has_no_input_axis() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["code"]),
        node("Transpose", ["w"], ["back"]),
        node("MatMul", ["code", "back"], ["y"]),
    ]
    assert prunable(nodes, (4, 3), "n", 4).input_axis is None


def test_a_weight_that_is_tied_in_one_direction_keeps_its_axis() -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("MatMul", ["h", "w"], ["y"])]
    weight = prunable(nodes, (4, 4), "n", 4)
    assert (weight.input_axis, len(weight.nodes)) == (0, 2)
