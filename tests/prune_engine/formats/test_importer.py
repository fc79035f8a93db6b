"""What becomes a parameter, what is prunable, and how it goes back."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from prune_engine.errors import ModelError, NoPrunableWeightsError, UnsupportedOperatorError
from prune_engine.formats import PrunableWeight, import_onnx, write_back
from tests.prune_engine.formats.graphs import linear, model, values
from tests.prune_engine.formats.running import distance, run

node = helper.make_node


def prunable(proto: onnx.ModelProto) -> dict[str, PrunableWeight]:
    return {weight.name: weight for weight in import_onnx(proto).prunable}


def test_a_linear_layer_of_matmul_and_add_has_a_weight_and_a_bias() -> None:
    module = import_onnx(linear())
    assert prunable(linear()) == {"w": PrunableWeight("w", "MatMul", (4, 3), 1, ("product",), 0)}
    assert set(module.weights) == {"w", "b"}
    x = torch.randn(5, 4)
    assert distance(module(x), run(linear(), x)) < 1e-6


@pytest.mark.parametrize(
    "name", ["trained", "weights", "prunable", "replays", "training", "_places", "_buffer_slots", "forward"]
)
def test_a_weight_may_be_called_as_something_of_torch_or_ours(name: str) -> None:
    proto = model([node("MatMul", ["x", name], ["y"])], {name: values(4, 3)})
    module = import_onnx(proto)
    assert list(module.weights) == [name]
    x = torch.randn(5, 4)
    assert distance(module(x), run(proto, x)) < 1e-6
    assert np.array_equal(module.state_values()[name], numpy_helper.to_array(proto.graph.initializer[0]))


@pytest.mark.parametrize(
    ("nodes", "shape", "kind", "axis"),
    [
        ([node("Gemm", ["x", "w"], ["y"], transB=1)], (3, 4), "Gemm", 0),
        ([node("Gemm", ["x", "w"], ["y"])], (4, 3), "Gemm", 1),
        (
            [node("Transpose", ["w"], ["t"], perm=[1, 0]), node("MatMul", ["x", "t"], ["y"])],
            (3, 4),
            "MatMul",
            0,
        ),
        ([node("Identity", ["w"], ["t"]), node("MatMul", ["x", "t"], ["y"])], (4, 3), "MatMul", 1),
        ([node("Reshape", ["w", "s"], ["t"]), node("MatMul", ["x", "t"], ["y"])], (1, 4, 3), "MatMul", 2),
        ([node("Einsum", ["x", "w"], ["y"], equation="nd,hd->nh")], (3, 4), "MatMul", 0),
        ([node("Transpose", ["x"], ["t"]), node("MatMul", ["w", "t"], ["y"])], (3, 4), "MatMul", 0),
    ],
)
def test_the_output_axis_is_that_of_the_initializer(
    nodes: list[onnx.NodeProto], shape: tuple[int, ...], kind: str, axis: int
) -> None:
    proto = model(nodes, {"w": values(*shape), "s": np.array([4, 3])})
    weight = prunable(proto)["w"]
    assert (weight.kind, weight.shape, weight.output_axis) == (kind, shape, axis)
    x = torch.randn(2, 4)
    assert distance(import_onnx(proto)(x), run(proto, x)) < 1e-6


def test_convolutions_and_embeddings_are_prunable_along_their_output_axis() -> None:
    nodes = [
        node("Conv", ["x", "c"], ["h"], pads=[1, 1, 1, 1]),
        node("ConvTranspose", ["h", "t"], ["y"]),
    ]
    found = prunable(model(nodes, {"c": values(6, 2, 3, 3), "t": values(6, 5, 2, 2)}, shape=("n", 2, 8, 8)))
    assert found["c"].output_axis == 0
    assert found["t"].output_axis == 1

    nodes = [node("Gather", ["table", "x"], ["h"]), node("MatMul", ["h", "w"], ["y"])]
    proto = model(
        nodes, {"table": values(9, 4), "w": values(4, 2)}, shape=("n", 3), element_type=TensorProto.INT64
    )
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    expected = PrunableWeight("table", "Embedding", (9, 4), 0, (node_name(proto, 0),), 1)
    assert prunable(proto)["table"] == expected


def node_name(proto: onnx.ModelProto, index: int) -> str:
    return f"{proto.graph.node[index].op_type} that computes {proto.graph.node[index].output[0]!r}"


def test_a_weight_that_two_nodes_share_is_one_parameter() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["h"], name="first"),
        node("MatMul", ["h", "w"], ["y"], name="second"),
    ]
    proto = model(nodes, {"w": values(4, 4)})
    module = import_onnx(proto)
    assert [weight.nodes for weight in module.prunable] == [("first", "second")]
    assert list(module.weights) == ["w"]


def test_masks_tables_scalars_and_input_normalisation_stay_constants() -> None:
    constants = {
        "mean": values(4),
        "half": np.array(0.5, np.float32),
        "w": values(4, 4),
        "b": values(4),
        "table": values(3, 4),
        "mask": np.array([[0, -1e9, 0, 0]] * 3, np.float32),
    }
    nodes = [
        node("Sub", ["x", "mean"], ["a"]),
        node("MatMul", ["a", "w"], ["b1"]),
        node("Add", ["b1", "b"], ["c"]),
        node("Mul", ["c", "half"], ["d"]),
        node("Add", ["d", "table"], ["e"]),
        node("Add", ["e", "mask"], ["y"]),
    ]
    module = import_onnx(model(nodes, constants, shape=("n", 3, 4)))
    assert set(module.weights) == {"w", "b"}


def test_a_weight_in_a_constant_node_is_trained_and_written_back() -> None:
    tensor = numpy_helper.from_array(values(4, 3), "inner")
    nodes = [node("Constant", [], ["w"], value=tensor), node("MatMul", ["x", "w"], ["y"])]
    proto = model(nodes, {})
    module = import_onnx(proto)
    with torch.no_grad():
        module.weights["w"].mul_(2)
    written = write_back(proto, module.state_values())
    x = torch.randn(3, 4)
    assert distance(module(x), run(written, x)) < 1e-6


def test_half_precision_weights_train_in_float32_and_go_back_as_float16() -> None:
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    proto = model(nodes, {"w": values(4, 3, dtype=np.float16)}, element_type=TensorProto.FLOAT16)
    module = import_onnx(proto)
    assert module.weights["w"].dtype == torch.float32
    assert module(torch.randn(2, 4))[0].dtype == torch.float32
    assert write_back(proto, module.state_values()) == proto
    with torch.no_grad():
        module.weights["w"][0, 0] = 0.1
    written = numpy_helper.to_array(write_back(proto, module.state_values()).graph.initializer[0])
    assert written.dtype == np.float16
    assert written[0, 0] == np.float16(0.1)


def test_double_precision_weights_that_nobody_touched_come_back_bit_for_bit() -> None:
    proto = model(
        [node("MatMul", ["x", "w"], ["y"])],
        {"w": values(4, 3, dtype=np.float64)},
        element_type=TensorProto.DOUBLE,
    )
    module = import_onnx(proto)
    with torch.no_grad():
        module.weights["w"][0, 0] = 0.0
    written = numpy_helper.to_array(write_back(proto, module.state_values()).graph.initializer[0])
    expected = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    expected[0, 0] = 0.0
    assert (written == expected).all()


def test_old_files_list_their_initializers_among_the_inputs() -> None:
    proto = linear(opset=9, ir_version=3)
    for name, shape in (("w", [4, 3]), ("b", [3])):
        proto.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    module = import_onnx(proto)
    assert module.input_names == ("x",)
    assert set(module.weights) == {"w", "b"}


def test_local_functions_are_seen_through() -> None:
    body = helper.make_function(
        "own", "Dense", ["a", "m"], ["c"], [node("MatMul", ["a", "m"], ["c"])], [helper.make_opsetid("", 17)]
    )
    proto = model([node("Dense", ["x", "w"], ["y"], domain="own")], {"w": values(4, 3)}, functions=[body])
    proto.opset_import.append(helper.make_opsetid("own", 1))
    module = import_onnx(proto)
    assert [weight.name for weight in module.prunable] == ["w"]
    assert write_back(proto, module.state_values()) == proto


def test_every_unsupported_operator_is_named_at_once() -> None:
    nodes = [
        node("MyGelu", ["x"], ["a"], domain="acme", name="first"),
        node("StringConcat", ["a", "a"], ["b"], name="second"),
        node("MyGelu", ["b"], ["c"], domain="acme"),
        node("MatMul", ["c", "w"], ["y"]),
    ]
    with pytest.raises(UnsupportedOperatorError) as caught:
        import_onnx(model(nodes, {"w": values(4, 3)}))
    message = caught.value.message
    assert "MyGelu (domain acme, opset 1) at first, MyGelu that computes 'c'" in message
    assert "StringConcat (domain ai.onnx, opset 17) at second" in message


@pytest.mark.parametrize("initializers", [{}, {"w": np.arange(12).reshape(4, 3)}])
def test_a_graph_without_float_weights_has_nothing_to_prune(initializers: dict[str, np.ndarray]) -> None:
    nodes = [node("MatMul", ["x", "w"], ["y"])] if initializers else [node("Relu", ["x"], ["y"])]
    with pytest.raises(NoPrunableWeightsError, match="no weight that could be pruned"):
        import_onnx(
            model(nodes, initializers, element_type=TensorProto.INT64 if initializers else TensorProto.FLOAT)
        )


def test_a_tensor_of_forty_terabytes_is_refused_before_memory_is_asked_for() -> None:
    nodes = [
        node("ConstantOfShape", ["huge"], ["a"]),
        node("MatMul", ["x", "w"], ["b"]),
        node("Add", ["a", "b"], ["y"]),
    ]
    with pytest.raises(ModelError, match="elements"):
        import_onnx(model(nodes, {"huge": np.array([10**7, 10**6]), "w": values(4, 3)}))


def test_batchnorm_statistics_that_two_layers_share_are_not_moved() -> None:
    def norm(x: str, y: str) -> onnx.NodeProto:
        return node("BatchNormalization", [x, f"s{y}", f"b{y}", "mean", "var"], [y])

    ones = np.ones(4, np.float32)
    nodes = [node("MatMul", ["x", "w"], ["h"]), norm("h", "g"), norm("g", "y")]
    constants = {
        "w": values(4, 4),
        "sg": ones,
        "bg": ones,
        "sy": ones,
        "by": ones,
        "mean": values(4),
        "var": ones,
    }
    module = import_onnx(model(nodes, constants)).train()
    module(torch.randn(8, 4))[0].sum().backward()
    assert set(module.state_values()) == {"w", "sg", "bg", "sy", "by"}


def test_a_copy_of_a_module_is_independent_and_the_shape_arithmetic_follows_the_batch() -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Concat", ["n1", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["h"]),
        node("MatMul", ["h", "w"], ["y"]),
    ]
    constants = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1]), "w": values(8, 3)}
    module = import_onnx(model(nodes, constants, shape=("n", 2, 4)))
    other = copy.deepcopy(module)
    with torch.no_grad():
        other.weights["w"].zero_()
    assert module(torch.ones(3, 2, 4))[0].abs().sum() > 0
    assert other(torch.ones(7, 2, 4))[0].shape == (7, 3)
    assert other(torch.ones(7, 2, 4))[0].abs().sum() == 0


def test_weights_may_be_given_other_storage() -> None:
    module = import_onnx(linear())
    flat = torch.zeros(12)
    module.weights["w"].data = flat.view(4, 3)
    assert (module(torch.ones(1, 4))[0] == module.weights["b"]).all()
    flat.fill_(1.0)
    assert torch.allclose(module(torch.ones(1, 4))[0], module.weights["b"] + 4)


def test_the_number_of_inputs_is_checked() -> None:
    with pytest.raises(TypeError, match="takes 1 inputs"):
        import_onnx(linear())()


def branching(condition: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """y = relu(x w) or -(x w) + c, by the value "which"; `c` belongs to the branch."""
    output = [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
    own = [numpy_helper.from_array(np.array([1.0], np.float32), "c")]
    then = helper.make_graph([node("Relu", ["h"], ["r"])], "then", [], output)
    other = helper.make_graph(
        [node("Neg", ["h"], ["m"]), node("Add", ["m", "c"], ["r"])], "else", [], output, own
    )
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        *condition,
        node("If", ["which"], ["y"], then_branch=then, else_branch=other),
    ]
    return model(nodes, {"w": values(4, 3), **constants})


@pytest.mark.parametrize("known", [True, False, None])
def test_both_branches_of_an_if_compute_and_train(known: bool | None) -> None:
    if known is None:  # by the number of rows
        condition = [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "zero"], ["n"]),
            node("Less", ["n", "five"], ["which"]),
        ]
        proto = branching(condition, {"zero": np.array(0), "five": np.array(5)})
    else:
        proto = branching([], {"which": np.array(known)})
    module = import_onnx(proto)
    for rows in (3, 8):
        x = torch.randn(rows, 4)
        assert distance(module(x), run(proto, x)) < 1e-6
        module.zero_grad()
        module(x)[0].sum().backward()
        assert module.weights["w"].grad is not None
        assert module.weights["w"].grad.abs().max() > 0
