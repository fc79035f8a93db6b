"""Weights wherever a file hides them, and why the other constants are none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from prune_engine.formats import (
    PrunableWeight,
    find_roles,
    import_onnx,
    not_prunable,
    read_graph,
    structural_differences,
    write_back,
)
from prune_engine.formats.flow import lets_through_or_blocks
from prune_engine.formats.onnx_file import parse_onnx
from tests.prune_engine.formats.graphs import model, values
from tests.prune_engine.formats.running import distance, run

node = helper.make_node


def checked(proto: onnx.ModelProto, x: torch.Tensor) -> dict[str, PrunableWeight]:
    """The prunable weights of a model that agrees with onnxruntime, before and after they change."""
    module = import_onnx(proto)
    assert distance(module(x), run(proto, x)) < 1e-5
    assert write_back(proto, module.state_values()) == proto
    module(x)[0].square().sum().backward()
    with torch.no_grad():
        for weight in module.prunable:
            gradient = module.weights[weight.name].grad
            assert gradient is not None
            assert gradient.abs().max() > 0
            module.weights[weight.name].mul_(0.5)
    written = write_back(proto, module.state_values())
    assert structural_differences(proto, written) == []
    assert distance(module(x), run(written, x)) < 1e-5
    return {weight.name: weight for weight in module.prunable}


def reasons(proto: onnx.ModelProto) -> dict[str, str]:
    graph = read_graph(proto)
    return {name: reason for name, _, reason in not_prunable(graph, find_roles(graph))}


def numbers(name: str, *given: int) -> onnx.NodeProto:
    return node("Constant", [], [name], value_ints=list(given))


CHAINS = [
    [
        node("Transpose", ["w"], ["a"], perm=[1, 0]),
        node("Identity", ["a"], ["b"]),
        node("Cast", ["b"], ["v"], to=1),
    ],
    [
        numbers("i", 0),
        node("Unsqueeze", ["w", "i"], ["a"]),
        node("Squeeze", ["a", "i"], ["b"]),
        node("Transpose", ["b"], ["v"]),
    ],
    [
        numbers("s", 12),
        node("Reshape", ["w", "s"], ["a"]),
        numbers("t", 3, -1),
        node("Reshape", ["a", "t"], ["b"]),
        node("Transpose", ["b"], ["v"]),
    ],
    [node("Flatten", ["w"], ["a"], axis=1), node("Neg", ["a"], ["b"]), node("Transpose", ["b"], ["v"])],
    [
        node("Split", ["w"], ["a", "b"], axis=1),
        node("Concat", ["b", "a"], ["c"], axis=1),
        node("Transpose", ["c"], ["v"]),
    ],
    [numbers("o", 0, 2, 1), node("Gather", ["w", "o"], ["a"]), node("Transpose", ["a"], ["v"])],
    [
        numbers("i", -1),
        numbers("j", -100),
        numbers("k", 0),
        numbers("l", -1),
        node("Slice", ["w", "i", "j", "k", "l"], ["a"]),
        node("Transpose", ["a"], ["v"]),
    ],
]
CHAINS += [
    [
        node("Shape", ["w"], ["all"]),
        numbers("zero", 0),
        node("Gather", ["all", "zero"], ["rows"]),
        numbers("rest", -1),
        node("Concat", ["rows", "rest"], ["target"], axis=0),
        node("Reshape", ["w", "target"], ["a"]),
        node("Transpose", ["a"], ["v"]),
    ],
]


CHAINS += [
    [
        numbers("cuts", 2, 1),
        node("SplitToSequence", ["w", "cuts"], ["pieces"], axis=0),
        node("Constant", [], ["first"], value_int=0),
        node("Constant", [], ["last"], value_int=-1),
        node("SequenceAt", ["pieces", "first"], ["a"]),
        node("SequenceAt", ["pieces", "last"], ["b"]),
        node("Concat", ["b", "a"], ["c"], axis=0),
        node("Transpose", ["c"], ["v"]),
    ],
    [
        node("SplitToSequence", ["w"], ["pieces"], axis=0),
        *(node("Constant", [], [f"i{i}"], value_int=i) for i in range(3)),
        *(node("SequenceAt", ["pieces", f"i{i}"], [f"p{i}"]) for i in range(3)),
        node("Concat", ["p0", "p1", "p2"], ["c"], axis=0),
        node("Transpose", ["c"], ["v"]),
    ],
    [node("CastLike", ["w", "x"], ["a"]), node("Transpose", ["a"], ["v"])],
]


@pytest.mark.parametrize("chain", CHAINS)
def test_a_weight_is_seen_through_whatever_only_moves_it(chain: Sequence[onnx.NodeProto]) -> None:
    proto = model([*chain, node("MatMul", ["x", "v"], ["y"])], {"w": values(3, 4)})
    assert checked(proto, torch.randn(2, 4))["w"].shape == (3, 4)


def test_the_output_axis_is_known_behind_a_chain_that_keeps_it() -> None:
    proto = model([*CHAINS[0], node("MatMul", ["x", "v"], ["y"])], {"w": values(3, 4)})
    assert checked(proto, torch.randn(2, 4))["w"].output_axis == 0


def test_the_parts_of_one_initializer_are_one_weight() -> None:
    nodes = [
        node("Split", ["qkv", "sizes"], ["q", "k", "v"], axis=0),
        *(node("Transpose", [part], [f"{part}t"]) for part in "qkv"),
        *(node("MatMul", ["x", f"{part}t"], [f"{part}x"], name=part) for part in "qkv"),
        node("Mul", ["qx", "kx"], ["p"]),
        node("Add", ["p", "vx"], ["y"]),
    ]
    proto = model(nodes, {"qkv": values(9, 4), "sizes": np.array([3, 3, 3])})
    assert checked(proto, torch.randn(2, 4)) == {
        "qkv": PrunableWeight("qkv", "MatMul", (9, 4), 0, ("q", "k", "v"), 1)
    }


def test_several_initializers_may_make_one_operand() -> None:
    """As torch's exporter builds the gates of an LSTM, in another order than its own."""
    nodes = [
        node("Slice", ["w", "zero", "two"], ["first"]),
        node("Slice", ["w", "two", "four"], ["second"]),
        node("Concat", ["second", "first", "more"], ["gates"], axis=0),
        node("Unsqueeze", ["gates", "zero"], ["three"]),
        node("Squeeze", ["three", "zero"], ["v"]),
        node("Gemm", ["x", "v"], ["y"], transB=1),
    ]
    constants = {"w": values(4, 4), "more": values(2, 4, seed=1)}
    constants |= {name: np.array([i]) for name, i in (("zero", 0), ("two", 2), ("four", 4))}
    found = checked(model(nodes, constants), torch.randn(2, 4))
    assert {name: (weight.kind, weight.output_axis) for name, weight in found.items()} == {
        "w": ("Gemm", 0),
        "more": ("Gemm", 0),
    }


@pytest.mark.parametrize("operator", ["Mul", "Div"])
def test_a_weight_times_a_scale_is_prunable_and_the_scale_is_not(operator: str) -> None:
    nodes = [node(operator, ["w", "s"], ["v"]), node("MatMul", ["x", "v"], ["y"])]
    proto = model(nodes, {"w": values(4, 3), "s": np.abs(values(1, 3)) + 1})
    assert set(checked(proto, torch.randn(2, 4))) == {"w"}


@pytest.mark.parametrize("swapped", [False, True])
def test_a_weight_under_a_mask_is_prunable_and_the_mask_stays(swapped: bool) -> None:
    operands = ["mask", "w"] if swapped else ["w", "mask"]
    nodes = [node("Mul", operands, ["v"]), node("MatMul", ["x", "v"], ["y"])]
    proto = model(nodes, {"w": values(4, 3), "mask": (values(4, 3, seed=2) > 0).astype("f")})
    assert set(checked(proto, torch.randn(2, 4))) == {"w"}
    assert set(import_onnx(proto).weights) == {"w"}


@pytest.mark.parametrize("mask", [[0, 1, 0], [0, -1e9, 0], [0, -np.inf, -np.inf]])
def test_a_mask_of_channels_is_no_parameter(mask: list[float]) -> None:
    operator = "Mul" if 1 in mask else "Add"
    nodes = [node("MatMul", ["x", "w"], ["h"]), node(operator, ["h", "mask"], ["y"])]
    proto = model(nodes, {"w": values(4, 3), "mask": np.array(mask, "f")})
    assert set(import_onnx(proto).weights) == {"w"}


@pytest.mark.parametrize(
    "values_", [[1, 1, 1], [0, 0, 0], [0, 1, 2], [0, 0.5, 1], [0, -1, 0], [np.nan, 0, 1], [1]]
)
def test_what_is_no_mask(values_: list[float]) -> None:
    assert not lets_through_or_blocks(np.array(values_, "f"))
    assert not lets_through_or_blocks(np.array(values_ * 100 + [3], "f"))


@pytest.mark.parametrize("cuts", [None, 1, -1, 0])
def test_a_list_of_a_million_million_pieces_is_not_made(cuts: int | None) -> None:
    nodes = [
        node("SplitToSequence", ["none"] if cuts is None else ["none", "cuts"], ["pieces"]),
        node("Constant", [], ["first"], value_int=0),
        node("SequenceAt", ["pieces", "first"], ["a"]),
        node("MatMul", ["x", "w"], ["y"]),
    ]
    constants = {"w": values(4, 3), "none": np.zeros((10**12, 0), "f"), "cuts": np.array(cuts or 0)}
    assert find_roles(read_graph(model(nodes, constants))).trained == {"w"}


@pytest.mark.parametrize("bounds", [(0, 2**62, 1), (0, 5, 0), (5, 0, 1), (0, -(2**62), -1)])
def test_a_range_without_end_is_not_counted(bounds: tuple[int, int, int]) -> None:
    given = [node("Constant", [], [f"r{i}"], value_int=value) for i, value in enumerate(bounds)]
    nodes = [*given, node("Range", ["r0", "r1", "r2"], ["r"]), node("MatMul", ["x", "w"], ["y"])]
    assert find_roles(read_graph(model(nodes, {"w": values(4, 3)}))).trained == {"w"}


def test_a_weight_that_is_mixed_with_another_is_trained_and_not_pruned() -> None:
    nodes = [
        node("Add", ["w", "lora"], ["v"]),
        node("MatMul", ["x", "v"], ["h"]),
        node("MatMul", ["h", "u"], ["y"]),
    ]
    proto = model(nodes, {"w": values(4, 3), "lora": values(4, 3, seed=1), "u": values(3, 2)})
    module = import_onnx(proto)
    assert [weight.name for weight in module.prunable] == ["u"]
    assert set(module.weights) == {"w", "lora", "u"}


@pytest.mark.parametrize("attribute", ["value", "value_floats"])
def test_constant_nodes_hold_weights(attribute: str) -> None:
    array = values(4)
    stored = (
        {"value": numpy_helper.from_array(array)} if attribute == "value" else {attribute: array.tolist()}
    )
    nodes = [node("Constant", [], ["w"], **stored), node("MatMul", ["x", "w"], ["y"])]
    found = checked(model(nodes, {}), torch.randn(2, 4))
    assert found["w"].shape == (4,)


def test_a_scalar_in_a_constant_node_goes_back() -> None:
    proto = model(
        [
            node("Constant", [], ["s"], value_float=2.0),
            node("Mul", ["x", "s"], ["h"]),
            node("MatMul", ["h", "w"], ["y"]),
        ],
        {"w": values(4, 2)},
    )
    written = write_back(proto, {"s": np.array(3.0, np.float32)})
    assert written.graph.node[0].attribute[0].f == 3.0
    assert structural_differences(proto, written) == []


@pytest.mark.parametrize("element_type", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
@pytest.mark.parametrize("raw", [True, False])
def test_weights_of_other_float_types_train_in_float32_and_go_back_in_their_own(
    element_type: int, raw: bool
) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(element_type)
    array = (values(4, 3).astype(np.float64) / 3).astype(dtype)
    tensor = numpy_helper.from_array(array, "w")
    if not raw:
        tensor = helper.make_tensor("w", element_type, [4, 3], array.reshape(-1).tolist())
    nodes = [node("Cast", ["w"], ["v"], to=1), node("MatMul", ["x", "v"], ["y"])]
    proto = model(nodes, {})
    proto.graph.initializer.append(tensor)
    module = import_onnx(proto)
    assert module.weights["w"].dtype == torch.float32
    assert write_back(proto, module.state_values()).SerializeToString() == proto.SerializeToString()
    x = torch.randn(2, 4)
    assert distance(module(x), run(proto, x)) < 1e-5
    with torch.no_grad():
        module.weights["w"][1] = 0.1
    written = numpy_helper.to_array(write_back(proto, module.state_values()).graph.initializer[0])
    assert written.dtype == dtype
    assert (written[1] == np.float32(0.1).astype(dtype)).all()
    assert written[[0, 2, 3]].tobytes() == array[[0, 2, 3]].tobytes()


def sparse(array: np.ndarray, name: str, *, flat: bool) -> onnx.SparseTensorProto:
    places = np.flatnonzero(array) if flat else np.argwhere(array)
    return helper.make_sparse_tensor(
        numpy_helper.from_array(array[array != 0], name),
        numpy_helper.from_array(places.astype(np.int64), f"{name}_indices"),
        list(array.shape),
    )


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("initializer", [True, False])
def test_sparse_tensors_compute_and_are_said_not_to_be_prunable(flat: bool, initializer: bool) -> None:
    array = values(4, 3) * (values(4, 3, seed=1) > 0)
    nodes = [node("MatMul", ["x", "s"], ["h"]), node("MatMul", ["h", "w"], ["y"])]
    if not initializer:
        nodes.insert(0, node("Constant", [], ["s"], sparse_value=sparse(array, "s", flat=flat)))
    proto = model(nodes, {"w": values(3, 2)}, output=("n", 2))
    if initializer:
        proto.graph.sparse_initializer.append(sparse(array, "s", flat=flat))
    module = import_onnx(parse_onnx(proto.SerializeToString()))
    dense = model(nodes[-2:], {"w": values(3, 2), "s": array})
    x = torch.randn(5, 4)
    assert distance(module(x), run(dense, x)) < 1e-5
    assert [weight.name for weight in module.prunable] == ["w"]
    assert reasons(proto)["s"] == "stored sparse"
    assert write_back(proto, module.state_values()) == proto


def test_every_constant_that_is_not_pruned_has_a_reason() -> None:
    function = helper.make_function(
        "own",
        "Twice",
        ["a"],
        ["b"],
        [node("Constant", [], ["two"], value_floats=[2.0, 2.0, 2.0, 2.0]), node("Mul", ["a", "two"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    nodes = [
        node("Twice", ["x"], ["x2"], domain="own", name="call"),
        node("Add", ["x2", "table"], ["a"]),
        node("Gemm", ["a", "w", "b"], ["c"]),
        node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["d"]),
        node("Mul", ["d", "half"], ["e"]),
        node("Mul", ["e", "mask"], ["f"]),
        node("PRelu", ["f", "slope"], ["g"]),
        node("Where", ["which", "g", "filled"], ["y"]),
    ]
    constants = {
        "table": values(2, 4),
        "w": values(4, 4),
        "b": values(4),
        "scale": values(4),
        "shift": values(4),
        "mean": values(4),
        "var": np.abs(values(4)),
        "half": np.array(0.5, np.float32),
        "mask": values(2, 4),
        "slope": values(4),
        "which": np.ones((2, 4), bool),
        "filled": values(2, 4),
        "unused": values(7),
    }
    proto = model(nodes, constants, shape=(2, 4), functions=[function])
    proto.opset_import.append(helper.make_opsetid("own", 1))
    assert reasons(proto) == {
        "table": "only added: a position table or a mask",
        "b": "bias",
        "scale": "normalisation scale",
        "shift": "normalisation shift",
        "mean": "running statistic",
        "var": "running statistic",
        "half": "scalar",
        "mask": "only multiplied: a scale or a mask",
        "slope": "slope",
        "filled": "feeds no weight operand (Where)",
        "unused": "nothing reads it",
        "call/two": "inside a local function",
    }


@pytest.mark.parametrize("computed", [False, True])
def test_a_branch_that_is_never_taken_is_the_reason(computed: bool) -> None:
    def branch(name: str) -> onnx.GraphProto:
        output = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
        stored = numpy_helper.from_array(values(4, 4), name)
        return helper.make_graph([node("MatMul", ["x", name], ["r"])], name, [], [output], [stored])

    nodes = [node("If", ["which"], ["y"], then_branch=branch("taken"), else_branch=branch("dead"))]
    if computed:
        nodes.insert(0, node("Not", ["other"], ["which"]))
    proto = model(nodes, {"other" if computed else "which": np.array(not computed)})
    assert reasons(proto) == {"dead": "in a branch that is never taken"}
    assert [weight.name for weight in import_onnx(proto).prunable] == ["taken"]
