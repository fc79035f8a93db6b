"""If: what it computes, what trains in its branches, and how it goes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from prune_engine.errors import ModelError
from prune_engine.formats import import_onnx, write_back
from prune_engine.formats.importer import compile_graph
from tests.prune_engine.formats.bodies import BOOL, FLOAT, INT, body, node, trains, value
from tests.prune_engine.formats.graphs import model, values
from tests.prune_engine.formats.running import distance, run


def branching(condition: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Two branches that both call their own weight "w", and an outer one that both read."""

    def branch(sign: str, seed: int, columns: int) -> onnx.GraphProto:
        nodes = [
            node("MatMul", ["h", "w"], ["a"]),
            node(sign, ["a"], ["b"]),
            node("MatMul", ["b", "shared"], ["r"]),
        ]
        return body(nodes, [], [value("r")], {"w": values(4, columns, seed=seed)})

    nodes = [
        node("MatMul", ["x", "first"], ["h"]),
        *condition,
        node(
            "If",
            ["which"],
            ["y"],
            name="either",
            then_branch=branch("Relu", 3, 4),
            else_branch=branch("Neg", 4, 4),
        ),
    ]
    return model(nodes, {"first": values(4, 4), "shared": values(4, 4, seed=1), **constants})


BY_ROWS = [
    node("Shape", ["x"], ["s"]),
    node("Gather", ["s", "zero"], ["n"]),
    node("Less", ["n", "five"], ["which"]),
]


def test_weights_of_both_branches_are_named_after_them_and_train() -> None:
    proto = branching(BY_ROWS, {"zero": np.array(0), "five": np.array(5)})
    module = import_onnx(proto)
    names = ["first", "either/else_branch/w", "shared", "either/then_branch/w"]
    assert [weight.name for weight in module.prunable] == names
    for rows in (3, 8):
        x = torch.randn(rows, 4)
        assert distance(module(x), run(proto, x)) < 1e-5
        module.zero_grad()
        module(x)[0].sum().backward()
        taken, other = ("then", "else") if rows < 5 else ("else", "then")
        assert module.weights[f"either/{taken}_branch/w"].grad is not None
        assert module.weights[f"either/{other}_branch/w"].grad is None
    with torch.no_grad():
        module.weights["either/then_branch/w"].mul_(2)
        module.weights["either/else_branch/w"].mul_(3)
    written = write_back(proto, module.state_values())
    for rows in (3, 8):
        x = torch.randn(rows, 4)
        assert distance(module(x), run(written, x)) < 1e-5


def sized(then: int, otherwise: list[onnx.NodeProto]) -> onnx.ModelProto:
    """y has as many columns as the branch says; the condition is about the number of rows."""
    first = [node("Constant", [], ["r"], value_ints=[-1, then])]
    result = [value("r", INT, [2])]
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        *BY_ROWS,
        node(
            "If",
            ["which"],
            ["target"],
            then_branch=body(first, [], result),
            else_branch=body(otherwise, [], result),
        ),
        node("Reshape", ["h", "target"], ["y"]),
    ]
    return model(nodes, {"w": values(4, 4), "zero": np.array(0), "five": np.array(5)})


def test_sizes_that_branches_give_stay_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = sized(2, [node("Shape", ["x"], ["r"])])
    inputs = torch.randn(3, 4), torch.randn(8, 4)
    wanted = [run(proto, x) for x in inputs]
    module = compile_graph(proto)
    monkeypatch.setattr(Tensor, "tolist", lambda *_: pytest.fail("a value was read from the device"))
    assert [distance(module(x), y) < 1e-5 for x, y in zip(inputs, wanted, strict=True)] == [True, True]


def test_sizes_of_which_one_branch_computes_a_tensor_are_tensors() -> None:
    computed = [
        node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Mul", ["m", "none"], ["f"]),
        node("Cast", ["f"], ["i"], to=INT),
        node("Shape", ["x"], ["all"]),
        node("Add", ["all", "i"], ["r"]),
    ]
    proto = sized(8, computed)
    proto.graph.initializer.append(numpy_helper.from_array(np.array(0.0, np.float32), "none"))
    for rows in (2, 6):
        trains(proto, torch.randn(rows, 4))


def test_a_branch_that_is_never_taken_has_no_prunable_weights() -> None:
    proto = branching([], {"which": np.array(False)})
    assert [weight.name for weight in import_onnx(proto).prunable] == [
        "first",
        "either/else_branch/w",
        "shared",
    ]
    trains(proto, torch.randn(3, 4))


@pytest.mark.parametrize(
    ("then", "otherwise", "message"),
    [
        ([value("r")], [value("r"), value("r")], "outputs"),
        ([value("r")], [value("r", INT)], "disagree about 'y'.*FLOAT.*INT64"),
    ],
)
def test_branches_that_disagree_are_refused(then: list[Any], otherwise: list[Any], message: str) -> None:
    branches = {
        "then_branch": body([node("Relu", ["h"], ["r"])], [], then),
        "else_branch": body([node("Neg", ["h"], ["r"])], [], otherwise),
    }
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("ReduceSum", ["h"], ["s"], keepdims=0),
        node("Cast", ["s"], ["which"], to=BOOL),
        node("If", ["which"], ["y"], name="either", **branches),
    ]
    with pytest.raises(ModelError, match=f"either.*{message}"):
        import_onnx(model(nodes, {"w": values(4, 4)}))


def test_branches_may_give_sequences_of_different_lengths() -> None:
    sequence = helper.make_tensor_sequence_value_info("r", FLOAT, None)
    then = body([node("SequenceConstruct", ["h", "x"], ["r"])], [], [sequence])
    other = body([node("SequenceConstruct", ["x", "h", "h"], ["r"])], [], [sequence])
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        *BY_ROWS,
        node("If", ["which"], ["q"], then_branch=then, else_branch=other),
        node("SequenceAt", ["q", "zero"], ["first"]),
        node("SequenceLength", ["q"], ["length"]),
        node("Cast", ["length"], ["f"], to=FLOAT),
        node("Mul", ["first", "f"], ["a"]),
        node("Add", ["a", "h"], ["y"]),
    ]
    proto = model(nodes, {"w": values(4, 4), "zero": np.array(0), "five": np.array(5)})
    for rows in (3, 8):
        trains(proto, torch.randn(rows, 4))
