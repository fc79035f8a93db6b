"""If, Loop and Scan: what they compute, what trains inside them, and how it goes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from prune_engine.errors import ModelError
from prune_engine.formats import import_onnx, read_values, structural_differences, write_back
from prune_engine.formats.importer import compile_graph
from tests.prune_engine.formats.graphs import model, values
from tests.prune_engine.formats.running import distance, run

node = helper.make_node
FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def value(name: str, element_type: int = FLOAT, shape: Sequence[int | str] | None = None) -> Any:
    return helper.make_tensor_value_info(name, element_type, shape)


def body(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    constants: dict[str, np.ndarray] | None = None,
) -> onnx.GraphProto:
    stored = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    return helper.make_graph(list(nodes), "body", list(inputs), list(outputs), stored)


def agrees(proto: onnx.ModelProto, *inputs: Tensor) -> bool:
    return distance(compile_graph(proto).eval()(*inputs), run(proto, *inputs)) < 1e-5


def trains(proto: onnx.ModelProto, *inputs: Tensor) -> None:
    """Every prunable weight gets a gradient, and what training changed computes the same in onnxruntime."""
    module = import_onnx(proto)
    assert distance(module(*inputs), run(proto, *inputs)) < 1e-5
    assert write_back(proto, module.state_values()) == proto
    sum(output.square().sum() for output in module(*inputs)).backward()
    with torch.no_grad():
        for weight in module.prunable:
            gradient = module.weights[weight.name].grad
            assert gradient is not None
            assert gradient.abs().max() > 0
            module.weights[weight.name].mul_(0.5)
    written = write_back(proto, module.state_values())
    assert structural_differences(proto, written) == []
    assert distance(module(*inputs), run(written, *inputs)) < 1e-5
    state = module.state_values()
    for name, found in read_values(written, [weight.name for weight in module.prunable]).items():
        assert (found == state[name]).all()


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
