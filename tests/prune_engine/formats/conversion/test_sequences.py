"""Sequences that are known when the graph is read become tensors; the others stay."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from prune_engine.formats.conversion.sequences import without_sequences
from tests.prune_engine.formats.graphs import model
from tests.prune_engine.formats.running import run

NUMBERS = {"zero": np.array(0), "one": np.array(1), "last": np.array(-1)}


def node(kind: str, inputs: str, output: str, **attributes: int) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def computed(*nodes: onnx.NodeProto) -> tuple[onnx.ModelProto, set[str]]:
    """The graph without sequences, after a look that it computes the same; and its operators."""
    shape = ("n", 4)
    proto = model([node("Neg", "x", "m"), node("Exp", "x", "e"), *nodes], NUMBERS, shape=shape, output=None)
    x = torch.randn(3, 4)
    wanted = run(proto, x)
    changed = without_sequences(proto)
    for a, b in zip(wanted, run(changed, x), strict=True):
        np.testing.assert_array_equal(a, b)
    return changed, {n.op_type for n in changed.graph.node}


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        ([node("SequenceConstruct", "x m e", "s"), node("ConcatFromSequence", "s", "y", axis=1)], {"Concat"}),
        ([node("SequenceConstruct", "x m e", "s"), node("SequenceAt", "s last", "y")], {"Identity"}),
        (
            [
                node("SequenceEmpty", "", "s"),
                node("SequenceInsert", "s x", "t"),
                node("SequenceInsert", "t m zero", "u"),
                node("SequenceInsert", "u e one", "v"),
                node("ConcatFromSequence", "v", "y", axis=0),
            ],
            {"Concat"},
        ),
        (
            [
                node("SequenceConstruct", "x m e", "s"),
                node("SequenceErase", "s one", "t"),
                node("SequenceErase", "t", "u"),
                node("ConcatFromSequence", "u", "y", axis=-1),
            ],
            {"Concat"},
        ),
        (
            [
                node("SequenceConstruct", "x m", "s"),
                node("SequenceLength", "s", "k"),
                node("Cast", "k", "f", to=1),
                node("Mul", "x f", "y"),
            ],
            {"Constant", "Cast", "Mul"},
        ),
        (
            [node("SplitToSequence", "x one", "s", axis=1), node("SequenceAt", "s last", "y")],
            {"Split", "Identity"},
        ),
    ],
)
def test_known_sequences_become_tensors(nodes: list[onnx.NodeProto], left: set[str]) -> None:
    _, kinds = computed(*nodes)
    assert kinds - {"Neg", "Exp"} == left


@pytest.mark.parametrize(
    "nodes",
    [
        [node("SplitToSequence", "x one", "s", axis=0), node("SequenceAt", "s last", "y")],
        [node("SequenceConstruct", "x m", "s"), node("ConcatFromSequence", "s", "y", axis=0, new_axis=1)],
        [node("SplitToSequence", "x", "s", axis=1, keepdims=0), node("SequenceAt", "s one", "y")],
    ],
)
def test_what_is_not_known_stays(nodes: list[onnx.NodeProto]) -> None:
    _, kinds = computed(*nodes)
    assert kinds - {"Neg", "Exp"} == {n.op_type for n in nodes}
