"""Loop and Scan: what they compute, what trains inside them, and how it goes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from prune_engine.formats import import_onnx
from prune_engine.formats.importer import compile_graph
from tests.prune_engine.formats.bodies import BOOL, FLOAT, INT, agrees, body, node, trains, value
from tests.prune_engine.formats.graphs import model, values


def looping(
    count: np.ndarray | None,
    condition: np.ndarray | None,
    goes_on: Sequence[onnx.NodeProto],
    *,
    opset: int = 17,
) -> onnx.ModelProto:
    """y = x after h <- tanh(h w) + i as often as the loop goes; also every h, and the sum of the i."""
    inner = body(
        [
            node("MatMul", ["h", "w"], ["p"]),
            node("Tanh", ["p"], ["t"]),
            node("Cast", ["i"], ["f"], to=FLOAT),
            node("Add", ["t", "f"], ["next"]),
            node("Add", ["k", "i"], ["more"]),
            node("Identity", ["next"], ["each"]),
            *goes_on,
        ],
        [value("i", INT, []), value("c", BOOL, []), value("h"), value("k", INT, [])],
        [value("on", BOOL, []), value("next"), value("more", INT, []), value("each", FLOAT, ["n", 4])],
        {"w": values(4, 4)},
    )
    loop = node("Loop", ["m" * (count is not None), "go" * (condition is not None), "x", "zero"], [])
    loop.output.extend(["y", "total", "all"])
    loop.attribute.append(helper.make_attribute("body", inner))
    loop.name = "loop"
    constants = {"zero": np.array(0)} | ({"m": count} if count is not None else {})
    proto = model([loop], constants | ({"go": condition} if condition is not None else {}), opset=opset)
    proto.graph.output.extend([value("total", INT, []), value("all", FLOAT, ["k", "n", 4])])
    return proto


ALWAYS = [node("Identity", ["c"], ["on"])]
BELOW_TWO = [
    node("Constant", [], ["two"], value=numpy_helper.from_array(np.array(2))),
    node("Less", ["i", "two"], ["on"]),
]
UNTIL_LARGE = [
    node("ReduceSum", ["next"], ["s"], keepdims=0),
    node("Constant", [], ["bound"], value=numpy_helper.from_array(np.array(9.0, np.float32))),
    node("Less", ["s", "bound"], ["on"]),
]


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize(
    ("count", "condition", "goes_on"),
    [
        (np.array(3), None, ALWAYS),
        (np.array([3]), np.array(True), ALWAYS),
        (np.array(9), np.array(True), BELOW_TWO),
        (None, np.array(True), BELOW_TWO),
        (None, None, BELOW_TWO),
        (np.array(50), np.array(True), UNTIL_LARGE),
        (np.array(3), None, BELOW_TWO),
    ],
)
def test_loops_of_every_form(
    count: np.ndarray | None, condition: np.ndarray | None, goes_on: list[onnx.NodeProto], opset: int
) -> None:
    trains(looping(count, condition, goes_on, opset=opset), torch.randn(2, 4))


@pytest.mark.parametrize(("count", "condition"), [(0, True), (4, False), (-1, True)])
def test_a_loop_that_runs_not_once_gives_its_states_back_and_empty_stacks(
    count: int, condition: bool
) -> None:
    proto = looping(np.array(count), np.array(condition), ALWAYS)
    x = torch.randn(2, 4)
    y, total, collected = compile_graph(proto)(x)
    assert (y == x).all()
    assert total == 0
    assert collected.shape == (0, 0, 4)


def test_a_loop_whose_count_is_a_number_never_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    module = compile_graph(looping(np.array(3), np.array(True), BELOW_TWO))
    for name in ("tolist", "item", "__bool__", "__int__"):
        monkeypatch.setattr(Tensor, name, lambda *_: pytest.fail("a value was read from the device"))
    module(torch.randn(2, 4))


def test_the_count_of_a_loop_may_come_from_the_input() -> None:
    inner = body(
        [node("MatMul", ["h", "w"], ["n"]), node("Identity", ["c"], ["on"])],
        [value("i", INT, []), value("c", BOOL, []), value("h")],
        [value("on", BOOL, []), value("n")],
    )
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["rows"]),
        node("Loop", ["rows", "", "x"], ["y"], body=inner),
    ]
    proto = model(nodes, {"zero": np.array(0), "w": values(4, 4)})
    for rows in (1, 4):
        trains(proto, torch.randn(rows, 4))


def test_a_state_that_starts_as_a_number_may_become_a_tensor() -> None:
    inner = body(
        [
            node("Gather", ["places", "k"], ["g"]),
            node("ReduceSum", ["g"], ["next"], keepdims=0),
            node("Identity", ["c"], ["on"]),
        ],
        [value("i", INT, []), value("c", BOOL, []), value("k", INT, [])],
        [value("on", BOOL, []), value("next", INT, [])],
    )
    nodes = [
        node("Cast", ["x"], ["places"], to=INT),
        node("Loop", ["m", "", "zero"], ["k"], body=inner),
        node("Cast", ["k"], ["y"], to=FLOAT),
    ]
    proto = model(nodes, {"m": np.array(3), "zero": np.array(0)}, shape=(4,))
    assert agrees(proto, torch.tensor([2.0, 3.0, 1.0, 0.0]))


def scanning(**attributes: Any) -> onnx.ModelProto:
    """A cell h <- tanh(x u + h w) over two sequences, the second of them added."""
    inner = body(
        [
            node("MatMul", ["row", "u"], ["a"]),
            node("MatMul", ["h", "w"], ["b"]),
            node("Add", ["a", "b"], ["s"]),
            node("Add", ["s", "other"], ["z"]),
            node("Tanh", ["z"], ["next"]),
            node("Add", ["steps", "next"], ["more"]),
            node("Identity", ["next"], ["each"]),
            node("Neg", ["next"], ["minus"]),
        ],
        [value(name) for name in ("h", "steps", "row", "other")],
        [value(name) for name in ("next", "more", "each", "minus")],
        {"u": values(4, 3), "w": values(3, 3, seed=1)},
    )
    scan = node("Scan", ["h0", "h0", "x", "second"], ["y", "sum", "all", "turned"], body=inner, **attributes)
    proto = model(
        [scan], {"h0": np.zeros((2, 3), np.float32), "second": values(5, 2, 3, seed=2)}, shape=(5, 2, 4)
    )
    proto.graph.output.extend(value(name) for name in ("sum", "all", "turned"))
    return proto


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"scan_input_directions": [1, 0]},
        {"scan_input_directions": [0, 1], "scan_output_directions": [1, 0]},
        {"scan_output_axes": [1, -1]},
    ],
)
def test_scans_in_all_directions_and_along_all_axes(attributes: dict[str, Any]) -> None:
    trains(scanning(num_scan_inputs=2, **attributes), torch.randn(5, 2, 4))


def test_a_scan_reads_along_the_axis_it_is_told() -> None:
    proto = scanning(num_scan_inputs=2, scan_input_axes=[1, 0])
    proto.graph.input[0].CopyFrom(value("x", FLOAT, (2, 5, 4)))
    trains(proto, torch.randn(2, 5, 4))
    proto = scanning(num_scan_inputs=2, scan_input_axes=[-2, -3])
    proto.graph.input[0].CopyFrom(value("x", FLOAT, (2, 5, 4)))
    trains(proto, torch.randn(2, 5, 4))


@pytest.mark.parametrize("directions", [None, [1]])
@pytest.mark.parametrize("lengths", [None, [3, 1]])
def test_a_scan_of_opset_8_runs_every_row_of_the_batch_by_itself(
    lengths: list[int] | None, directions: list[int] | None
) -> None:
    inner = body(
        [
            node("Mul", ["row", "u"], ["a"]),
            node("Add", ["h", "a"], ["next"]),
            node("Identity", ["next"], ["each"]),
        ],
        [value("h", FLOAT, [4]), value("row", FLOAT, [4])],
        [value("next", FLOAT, [4]), value("each", FLOAT, [4])],
        {"u": values(4)},
    )
    options: dict[str, Any] = {} if directions is None else {"directions": directions}
    scan = node(
        "Scan", ["l" * bool(lengths), "h0", "x"], ["y", "all"], body=inner, num_scan_inputs=1, **options
    )
    constants = {"h0": values(2, 4, seed=1)} | ({"l": np.array(lengths)} if lengths else {})
    proto = model([scan], constants, shape=(2, 3, 4), opset=8, ir_version=4)
    for name, tensor in list(constants.items()):  # IR 3 and 4 readers want them among the inputs
        proto.graph.input.append(value(name, INT if name == "l" else FLOAT, tensor.shape))
    proto.graph.output.append(value("all"))
    x = torch.randn(2, 3, 4)
    found = compile_graph(proto)(x)
    first = numpy_helper.to_array(proto.graph.initializer[0])
    u = numpy_helper.to_array(inner.initializer[0])
    for row in range(2):
        length = lengths[row] if lengths else 3
        rows = x[row, :length].numpy()
        if directions:
            rows = rows[::-1]
        sums = first[row] + np.cumsum(rows * u, axis=0)
        np.testing.assert_allclose(found[0][row].numpy(), sums[-1], rtol=1e-5)
        np.testing.assert_allclose(found[1][row, :length].numpy(), sums, rtol=1e-5)
        assert (found[1][row, length:] == 0).all()


def test_layers_that_are_stacked_in_one_tensor_are_one_weight() -> None:
    inner = body(
        [node("MatMul", ["h", "layer"], ["p"]), node("Tanh", ["p"], ["n"])],
        [value("h"), value("layer", FLOAT, [4, 4])],
        [value("n")],
    )
    proto = model(
        [node("Scan", ["x", "stack"], ["y"], body=inner, num_scan_inputs=1)], {"stack": values(3, 4, 4)}
    )
    weight = import_onnx(proto).prunable[0]
    assert (weight.name, weight.shape, weight.output_axis) == ("stack", (3, 4, 4), 2)
    trains(proto, torch.randn(2, 4))


def test_a_loop_that_picks_its_layer_by_its_count_trains_the_stack() -> None:
    inner = body(
        [
            node("Gather", ["stack", "i"], ["layer"]),
            node("MatMul", ["h", "layer"], ["n"]),
            node("Identity", ["c"], ["on"]),
        ],
        [value("i", INT, []), value("c", BOOL, []), value("h")],
        [value("on", BOOL, []), value("n")],
    )
    proto = model(
        [node("Loop", ["m", "", "x"], ["y"], body=inner)], {"stack": values(3, 4, 4), "m": np.array(3)}
    )
    assert [weight.name for weight in import_onnx(proto).prunable] == ["stack"]
    trains(proto, torch.randn(2, 4))


def test_a_loop_in_a_branch_in_a_scan() -> None:
    loop = body(
        [node("MatMul", ["g", "w"], ["n"]), node("Identity", ["c"], ["on"])],
        [value("i", INT, []), value("c", BOOL, []), value("g")],
        [value("on", BOOL, []), value("n")],
        {"w": values(4, 4)},
    )
    then = body([node("Loop", ["m", "", "row"], ["r"], body=loop)], [], [value("r")])
    other = body([node("Neg", ["row"], ["r"])], [], [value("r")])
    scan = body(
        [
            node("ReduceSum", ["row"], ["s"], keepdims=0),
            node("Greater", ["s", "nothing"], ["which"]),
            node("If", ["which"], ["n"], then_branch=then, else_branch=other),
            node("Add", ["h", "n"], ["next"]),
        ],
        [value("h", FLOAT, [2, 4]), value("row", FLOAT, [2, 4])],
        [value("next", FLOAT, [2, 4])],
    )
    proto = model(
        [node("Scan", ["start", "x"], ["y"], body=scan, num_scan_inputs=1)],
        {
            "m": np.array(2),
            "nothing": np.array(0.0, np.float32),
            "start": np.zeros((2, 4), np.float32),
        },
        shape=(6, 2, 4),
    )
    trains(proto, torch.randn(6, 2, 4))


def test_a_loop_may_carry_a_sequence_of_tensors() -> None:
    sequence = helper.make_tensor_sequence_value_info
    inner = body(
        [
            node("Gather", ["x", "i"], ["row"]),
            node("MatMul", ["row", "w"], ["p"]),
            node("SequenceInsert", ["s", "p"], ["more"]),
            node("Identity", ["c"], ["on"]),
        ],
        [value("i", INT, []), value("c", BOOL, []), sequence("s", FLOAT, None)],
        [value("on", BOOL, []), sequence("more", FLOAT, None)],
    )
    nodes = [
        node("SequenceEmpty", [], ["none"]),
        node("Loop", ["m", "", "none"], ["s"], body=inner),
        node("ConcatFromSequence", ["s"], ["y"], axis=0, new_axis=1),
    ]
    trains(model(nodes, {"m": np.array(3), "w": values(4, 2)}, shape=(3, 4)), torch.randn(3, 4))
