"""Every way in which a graph can be wrong has its code and its sentence."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prune_engine.errors import ModelError, NoPrunableWeightsError, PruneError, UnsupportedOperatorError
from prune_engine.formats import import_onnx
from prune_engine.formats.onnx_file import parse_onnx
from tests.prune_engine.formats.graphs import linear, model, values

node = helper.make_node
W = {"w": values(4, 3)}
PRODUCT = node("MatMul", ["x", "w"], ["y"], name="product")


def refused(proto: onnx.ModelProto, kind: type[PruneError] = ModelError) -> str:
    with pytest.raises(kind) as caught:
        import_onnx(proto)
    assert type(caught.value) is kind
    assert caught.value.param == "model"
    return caught.value.message


def test_all_that_is_unsupported_is_in_one_error_with_names_opsets_and_ways_round() -> None:
    output = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    then = helper.make_graph(
        [node("Secret", ["h"], ["r"], domain="acme", name="inside")], "then", [], [output]
    )
    other = helper.make_graph([node("Neg", ["h"], ["r"])], "else", [], [output])
    nodes = [
        node("Constant", [], ["words"], value_strings=["a", "b"], name="words"),
        node("Gelu", ["x"], ["g"], name="gelu"),
        node("SVMClassifier", ["g"], ["s"], domain="ai.onnx.ml", name="scaler"),
        node("MatMul", ["s", "w"], ["h"]),
        node("ReduceSum", ["h"], ["t"], keepdims=0),
        node("Cast", ["t"], ["which"], to=TensorProto.BOOL),
        node("If", ["which"], ["i"], then_branch=then, else_branch=other),
        node("StringNormalizer", ["words"], ["n"], name="strings"),
        node("LSTM", ["i", "lw", "lr", "", "", "", "", "peep"], ["y"], name="cells", hidden_size=2),
    ]
    constants = W | {
        "lw": values(1, 8, 3),
        "lr": values(1, 8, 2),
        "peep": values(1, 6),
        "text": np.array([b"no"], object),
    }
    proto = model(nodes, constants, shape=("n", "k", 4))
    message = refused(proto, UnsupportedOperatorError)
    for part in (
        "Gelu (domain ai.onnx, opset 17) at gelu",
        "convert_version(model, 20)",
        "SVMClassifier (domain ai.onnx.ml, opset 1) at scaler",
        "Send only the neural network",
        "Secret (domain acme, opset 1) at inside",
        "local functions of the model",
        "StringNormalizer (domain ai.onnx, opset 17) at strings",
        "string values at the constant 'text'",
        "Turn text into numbers",
        "peephole",
        "at cells",
    ):
        assert part in message, part


@pytest.mark.parametrize(
    ("operator", "domain", "way"),
    [
        ("ATen", "aten", "dynamo=True"),
        ("Gradient", "ai.onnx.preview.training", "inference"),
        ("TreeEnsemble", "ai.onnx.ml", "neural network"),
        ("NotThereYet", "com.microsoft", "before onnxruntime optimised it"),
        ("Own", "acme", "make_function"),
    ],
)
def test_the_way_round_depends_on_where_the_operator_is_from(operator: str, domain: str, way: str) -> None:
    message = refused(
        model([node(operator, ["x"], ["h"], domain=domain), node("MatMul", ["h", "w"], ["y"])], W),
        UnsupportedOperatorError,
    )
    assert way in message


def test_inputs_that_are_no_tensors_are_named() -> None:
    proto = linear()
    proto.graph.input.append(helper.make_tensor_sequence_value_info("many", TensorProto.FLOAT, None))
    assert "a sequence instead of a tensor at the input 'many'" in refused(proto, UnsupportedOperatorError)


def test_text_as_an_input_is_named() -> None:
    proto = linear()
    proto.graph.input.append(helper.make_tensor_value_info("words", TensorProto.STRING, ["n"]))
    assert "the input 'words'" in refused(proto, UnsupportedOperatorError)


@pytest.mark.parametrize(("opset", "target"), [(99, 28), (29, 28)])
def test_an_opset_out_of_range_is_refused_with_the_way_to_convert(opset: int, target: int) -> None:
    message = refused(linear(opset=opset), UnsupportedOperatorError)
    assert f"opset {opset}" in message
    assert f"convert_version(model, {target})" in message


@pytest.mark.parametrize(
    ("nodes", "opset", "messages"),
    [
        (
            [node("Gelu", ["x"], ["h"], name="gelu"), node("Swoosh", ["h"], ["g"], name="new")],
            17,
            ["Gelu (domain ai.onnx, opset 17) at gelu", "Swoosh (domain ai.onnx, opset 17) at new"],
        ),
        ([node("Swish", ["x"], ["g"], name="late")], 20, ["Swish", "known from opset 24", "model, 24)"]),
    ],
)
def test_a_file_of_operators_that_onnx_does_not_know_lists_them_all(
    nodes: list[onnx.NodeProto], opset: int, messages: list[str]
) -> None:
    proto = model([*nodes, node("MatMul", ["g", "w"], ["y"])], W, opset=opset, output=("n", 3))
    with pytest.raises(UnsupportedOperatorError) as caught:
        parse_onnx(proto.SerializeToString())
    for message in messages:
        assert message in caught.value.message


def test_a_file_of_an_opset_that_is_too_new_is_refused_when_it_is_read() -> None:
    with pytest.raises(UnsupportedOperatorError, match="opset 99"):
        parse_onnx(linear(opset=99).SerializeToString())


@pytest.mark.parametrize("opset", range(7, 27))
def test_every_opset_from_7_is_taken(opset: int) -> None:
    assert [weight.name for weight in import_onnx(linear(opset=opset)).prunable] == ["w"]


def test_a_cycle_is_named() -> None:
    nodes = [node("Add", ["x", "b"], ["a"], name="one"), node("MatMul", ["a", "w"], ["b"], name="two")]
    assert "cycle: one" in refused(model([*nodes, PRODUCT], W))


def test_a_cycle_through_a_branch_is_named() -> None:
    output = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    branch = helper.make_graph([node("Neg", ["late"], ["r"])], "branch", [], [output])
    nodes = [
        node("If", ["which"], ["a"], then_branch=branch, else_branch=branch, name="early"),
        node("MatMul", ["a", "w"], ["late"]),
        PRODUCT,
    ]
    assert "cycle: early" in refused(model(nodes, W | {"which": np.array(True)}))


def test_a_missing_initializer_is_named() -> None:
    assert "product reads 'w'" in refused(model([PRODUCT], {}))


def test_a_missing_initializer_of_a_branch_is_named() -> None:
    output = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    branch = helper.make_graph([node("MatMul", ["x", "gone"], ["r"])], "branch", [], [output])
    nodes = [node("If", ["which"], ["a"], then_branch=branch, else_branch=branch, name="either"), PRODUCT]
    assert "'gone'" in refused(model(nodes, W | {"which": np.array(True)}))


def test_a_value_that_is_defined_twice_is_named() -> None:
    assert "defines the value 'y' twice" in refused(model([PRODUCT, node("Relu", ["x"], ["y"])], W))
    proto = linear()
    proto.graph.initializer.append(numpy_helper.from_array(values(2), "w"))
    assert "initializer 'w' twice" in refused(proto)


def test_an_output_that_nothing_computes_is_named() -> None:
    assert "graph output 'y'" in refused(model([node("MatMul", ["x", "w"], ["other"])], W))


def test_two_versions_of_one_domain_are_named() -> None:
    proto = linear()
    proto.opset_import.append(helper.make_opsetid("ai.onnx", 13))
    assert "two versions, 17 and 13" in refused(proto)


@pytest.mark.parametrize(
    ("nodes", "constants", "shape", "message"),
    [
        ([PRODUCT], {"w": values(5, 3)}, ("n", 4), "product.*[?, 4].*[5, 3].*4 columns meet 5 rows"),
        (
            [node("Transpose", ["w"], ["v"]), node("MatMul", ["x", "v"], ["y"], name="product")],
            {"w": values(4, 3)},
            ("n", 4),
            "product.*4 columns meet 3 rows",
        ),
        (
            [node("Gemm", ["x", "w"], ["y"], name="layer", transB=1)],
            {"w": values(4, 3)},
            ("n", 4),
            "layer.*4 columns meet 3 rows",
        ),
        (
            [node("Gemm", ["x", "w"], ["y"], name="layer")],
            {"w": values(1, 4, 3)},
            ("n", 4),
            "must be matrices",
        ),
        (
            [node("Conv", ["x", "w"], ["y"], name="conv")],
            {"w": values(6, 2, 3, 3)},
            ("n", 3, 8, 8),
            "conv.*3 channels meet a weight for 2",
        ),
        (
            [node("Conv", ["x", "w"], ["y"], name="conv", kernel_shape=[5, 5])],
            {"w": values(6, 3, 3, 3)},
            ("n", 3, 8, 8),
            r"conv.*kernel_shape says \[5, 5\]",
        ),
        (
            [node("Conv", ["x", "w"], ["y"], name="conv")],
            {"w": values(6, 3, 3)},
            ("n", 3, 8, 8),
            "conv.*4 dimensions meets a weight of 3",
        ),
        (
            [node("ConvTranspose", ["x", "w"], ["y"], name="up")],
            {"w": values(6, 3, 2, 2)},
            ("n", 3, 8, 8),
            "up.*3 channels meet a weight for 6",
        ),
        (
            [node("RNN", ["x", "w", "r"], ["y"], name="cells", hidden_size=3)],
            {"w": values(1, 3, 5), "r": values(1, 3, 3)},
            ("n", 2, 4),
            "cells.*4 features meet a weight for 5",
        ),
    ],
)
def test_a_weight_that_cannot_fit_its_node_is_named(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], shape: tuple[int | str, ...], message: str
) -> None:
    pattern = message if "\\" in message else message.replace("[", r"\[").replace("?", r"\?")
    with pytest.raises(ModelError, match=pattern):
        import_onnx(model(nodes, constants, shape=shape))


def test_a_graph_without_prunable_weights_says_what_would_be_one() -> None:
    message = refused(model([node("Relu", ["x"], ["y"])], {}), NoPrunableWeightsError)
    assert "no convolution, matrix product or embedding" in message


def test_an_unknown_operator_that_has_all_the_weights_is_what_is_said() -> None:
    proto = model([node("Dense", ["x", "w"], ["y"], domain="acme", name="layer")], W)
    assert "Dense (domain acme, opset 1) at layer" in refused(proto, UnsupportedOperatorError)


@pytest.mark.parametrize("kind", ["input", "output"])
def test_a_rank_that_nobody_knows_is_refused_by_name(kind: str) -> None:
    proto = linear()
    getattr(proto.graph, kind)[0].type.tensor_type.ClearField("shape")
    with pytest.raises(
        ModelError, match=f"graph {kind} '{'x' if kind == 'input' else 'y'}' declares no shape"
    ):
        parse_onnx(proto.SerializeToString())


def test_a_loop_whose_body_does_not_fit_it_is_named() -> None:
    body = helper.make_graph(
        [node("Identity", ["c"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info(n, t, [])
            for n, t in (("i", TensorProto.INT64), ("c", TensorProto.BOOL))
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, [])],
    )
    nodes = [PRODUCT, node("Loop", ["m", "", "x"], ["z"], body=body, name="loop")]
    assert "loop: its body takes 2 inputs, and 3 are given" in refused(model(nodes, W | {"m": np.array(2)}))


def test_indices_of_a_sparse_tensor_that_lie_outside_are_refused() -> None:
    proto = model([PRODUCT, node("Add", ["y", "s"], ["z"])], W)
    proto.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            numpy_helper.from_array(values(1), "s"),
            numpy_helper.from_array(np.array([7]), "places"),
            [3],
        )
    )
    assert "'s' has indices that do not fit its shape [3]" in refused(proto)
    proto.graph.sparse_initializer[0].dims[0] = 2**40
    assert "more than" in refused(proto)


def test_a_tensor_of_a_hundred_dimensions_is_refused() -> None:
    proto = model([PRODUCT], W)
    proto.graph.initializer[0].dims[:] = [1] * 98 + [4, 3]
    assert "100 dimensions" in refused(proto)
