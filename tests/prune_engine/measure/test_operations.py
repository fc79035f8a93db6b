from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prune_engine.formats.operators import rows
from prune_engine.formats.weight_places import weight_places
from prune_engine.measure import count_operations, operations_info
from prune_engine.measure.operations import _counted
from tests.prune_engine.data.nets import mlp


def graph(
    nodes: list[onnx.NodeProto],
    row: list[int | str],
    weights: dict[str, tuple[int, ...]],
    constants: dict[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()]
    tensors += [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, row)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    made = helper.make_graph(nodes, "g", [x], [y], tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def half(*shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 2 == 0).reshape(shape)


@pytest.mark.parametrize("batch", [1, 5])
def test_gemm_counts_one_row(batch: int) -> None:
    model = mlp([(np.ones((6, 4)), np.zeros(4)), (np.ones((4, 2)), np.zeros(2))])
    shapes = {"input": (batch, 6)}
    assert count_operations(model, None, shapes) == 6 * 4 + 4 * 2
    masks = {"w0": half(6, 4), "w1": np.ones((4, 2), bool)}
    assert count_operations(model, masks, shapes) == 12 + 8


def test_convolutions_count_every_position_and_groups() -> None:
    conv = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2], group=2)]
    model = graph(conv, ["N", 4, 8, 8], {"w": (6, 2, 3, 3)})
    assert count_operations(model, None, {"x": (1, 4, 8, 8)}) == 6 * 4 * 4 * (2 * 9)
    assert count_operations(model, {"w": half(6, 2, 3, 3)}, {"x": (1, 4, 8, 8)}) == 6 * 4 * 4 * 9


def test_transposed_convolutions_count_their_input_positions() -> None:
    model = graph(
        [helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])],
        ["N", 3, 5, 5],
        {"w": (3, 7, 2, 2)},
    )
    assert count_operations(model, None, {"x": (1, 3, 5, 5)}) == 3 * 25 * 7 * 4


def test_matmul_counts_every_token_and_weights_behind_a_transpose() -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "wt"], ["y"]),
    ]
    model = graph(nodes, ["N", 7, 4], {"w": (3, 4)})
    assert count_operations(model, None, {"x": (1, 7, 4)}) == 7 * 4 * 3
    assert count_operations(model, {"w": half(3, 4)}, {"x": (1, 7, 4)}) == 7 * 6


def test_a_product_of_two_activations_stays_whole() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["xt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "xt"], ["y"]),
    ]
    model = graph(nodes, ["N", 7, 4], {})
    assert count_operations(model, {"other": half(3, 4)}, {"x": (1, 7, 4)}) == 7 * 7 * 4


def test_recurrent_cells_count_every_step() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps_first"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps_first", "w", "r"], ["y"], hidden_size=5),
    ]
    model = graph(nodes, ["N", "T", 3], {"w": (1, 20, 3), "r": (1, 20, 5)})
    assert count_operations(model, None, {"x": (1, 6, 3)}) == 6 * (60 + 100)
    assert count_operations(model, {"w": half(1, 20, 3)}, {"x": (1, 6, 3)}) == 6 * (30 + 100)


def test_shapes_that_inference_gives_up_on_are_measured() -> None:
    nodes = [
        helper.make_node("Loop", ["trips", "", "x"], ["same"], body=_loop()),
        helper.make_node("Conv", ["same", "k"], ["y"]),
    ]
    model = graph(nodes, ["N", 2, 6, 6], {"k": (3, 2, 3, 3)}, {"trips": np.array(1, np.int64)})
    assert count_operations(model, None, {"x": (1, 2, 6, 6)}) == 3 * 16 * 18


def _loop() -> onnx.GraphProto:
    """A loop whose state has no declared shape, which stops shape inference."""
    state_in = helper.make_tensor_value_info("state_in", TensorProto.FLOAT, None)
    state_out = helper.make_tensor_value_info("state_out", TensorProto.FLOAT, None)
    return helper.make_graph(
        [
            helper.make_node("Identity", ["condition_in"], ["condition_out"]),
            helper.make_node("Relu", ["state_in"], ["state_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("iteration", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition_in", TensorProto.BOOL, []),
            state_in,
        ],
        [helper.make_tensor_value_info("condition_out", TensorProto.BOOL, []), state_out],
    )


def test_where_the_model_does_not_run_there_is_no_figure_but_a_reason() -> None:
    model = graph([helper.make_node("MatMul", ["x", "w"], ["y"])], ["N", "C"], {"w": (3, 4)})
    info, reason = operations_info(model, {}, {"x": (1, 5)})
    assert (info.before, info.effective) == (None, None)
    assert reason is not None
    assert "could not be counted" in reason


def test_resnet20_has_the_published_number(shared_models: Path) -> None:
    model = onnx.load(shared_models / "cifar10_resnet" / "resnet20.onnx")
    assert count_operations(model, None, {"input": (1, 3, 32, 32)}) == 40_551_040


ATTENTION = 2 * (4 * 5 * 5 * 8)  # queries times keys and weights times values: heads, length, keys, size


@pytest.mark.parametrize("batch", [1, 3])
def test_attention_counts_both_of_its_products(batch: int) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["q"]),
        helper.make_node("Attention", ["q", "x", "x"], ["y"], q_num_heads=4, kv_num_heads=4),
    ]
    model = graph(nodes, ["N", 5, 32], {"w": (32, 32)})
    model.opset_import[0].version = 23
    model.ir_version = 11
    shapes = {"x": (batch, 5, 32)}
    assert count_operations(model, None, shapes) == 5 * 32 * 32 + ATTENTION
    assert count_operations(model, {"w": half(32, 32)}, shapes) == 5 * 32 * 32 // 2 + ATTENTION


def fused(
    nodes: list[onnx.NodeProto], row: list[int | str], weights: dict[str, tuple[int, ...]]
) -> onnx.ModelProto:
    model = graph(nodes, row, weights)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


@pytest.mark.parametrize("batch", [1, 3])
def test_fused_attention_counts_its_projection_too(batch: int) -> None:
    options = {"domain": "com.microsoft", "num_heads": 4}
    model = fused(
        [helper.make_node("Attention", ["x", "w", "b"], ["y"], **options)],
        ["N", 5, 32],
        {"w": (32, 96), "b": (96,)},
    )
    shapes = {"x": (batch, 5, 32)}
    assert count_operations(model, None, shapes) == 5 * 32 * 96 + ATTENTION
    assert count_operations(model, {"w": half(32, 96)}, shapes) == 5 * 32 * 96 // 2 + ATTENTION
    apart = fused(
        [helper.make_node("MultiHeadAttention", ["x", "x", "x"], ["y"], **options)], ["N", 5, 32], {}
    )
    assert count_operations(apart, None, shapes) == ATTENTION


def test_fused_products_and_convolutions_count_like_plain_ones() -> None:
    options = {"domain": "com.microsoft"}
    model = fused(
        [helper.make_node("FusedMatMul", ["x", "w"], ["y"], transA=1, alpha=0.5, **options)],
        ["N", 6, 4],
        {"w": (6, 3)},
    )
    assert count_operations(model, {"w": half(6, 3)}, {"x": (2, 6, 4)}) == 4 * 6 * 3 // 2
    conv = [helper.make_node("FusedConv", ["x", "w"], ["y"], activation="Relu", **options)]
    model = fused(conv, ["N", 4, 8, 8], {"w": (6, 4, 3, 3)})
    assert count_operations(model, None, {"x": (1, 4, 8, 8)}) == 6 * 6 * 6 * 4 * 9


@pytest.mark.parametrize(
    ("equation", "row", "weight", "count"),
    [
        ("bi,io->bo", [8], (8, 20), 8 * 20),
        ("b i , i o", [8], (8, 20), 8 * 20),
        ("bti,oi->bto", [7, 8], (20, 8), 7 * 8 * 20),
        ("bthd,hdo->bto", [7, 2, 4], (2, 4, 6), 7 * 2 * 4 * 6),
        ("...i,io->...o", [7, 8], (8, 20), 7 * 8 * 20),
        ("bii,i->b", [4, 4], (4,), 4),
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_einsum_counts_like_the_product_that_it_is(
    equation: str, row: list[int], weight: tuple[int, ...], count: int, batch: int
) -> None:
    einsum = helper.make_node("Einsum", ["x", "w"], ["y"], equation=equation)
    model = graph([einsum], ["N", *row], {"w": weight})
    shapes = {"x": (batch, *row)}
    assert count_operations(model, None, shapes) == count
    assert count_operations(model, {"w": half(*weight)}, shapes) == count // 2


def test_einsum_of_one_operand_multiplies_nothing() -> None:
    model = graph([helper.make_node("Einsum", ["x"], ["y"], equation="bij->bji")], ["N", 3, 4], {})
    assert count_operations(model, None, {"x": (2, 3, 4)}) == 0


@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_every_operator_whose_weights_are_pruned_counts(domain: str) -> None:
    """All but embeddings, which are looked up and multiply nothing."""
    attributes = {"Einsum": {"equation": "bi,io->bo"}}
    pruned = []
    for name in sorted({row.name for row in rows() if row.domain == domain}):
        inputs = [f"i{position}" for position in range(9)][: 2 if name == "Einsum" else 9]
        node = helper.make_node(name, inputs, ["y"], domain=domain, **attributes.get(name, {}))
        kinds = {kind for _, kind, _ in weight_places(node, lambda _: 2)} - {"Embedding"}
        if kinds:
            pruned.append(name)
            assert _counted(helper.make_graph([node], name, [], [])), name
    assert len(pruned) > 5


def test_products_inside_local_functions_count() -> None:
    dense = helper.make_function(
        "own",
        "Dense",
        ["a", "m"],
        ["b"],
        [helper.make_node("MatMul", ["a", "m"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    model = graph([helper.make_node("Dense", ["x", "w"], ["y"], domain="own")], ["N", 6], {"w": (6, 4)})
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.append(dense)
    assert count_operations(model, None, {"x": (3, 6)}) == 24
    assert count_operations(model, {"w": half(6, 4)}, {"x": (3, 6)}) == 12


def test_products_inside_a_loop_have_no_figure_but_a_reason() -> None:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("MatMul", ["h", "w"], ["n"]), helper.make_node("Identity", ["c"], ["on"])],
        "body",
        [
            value("i", TensorProto.INT64, []),
            value("c", TensorProto.BOOL, []),
            value("h", TensorProto.FLOAT, None),
        ],
        [value("on", TensorProto.BOOL, []), value("n", TensorProto.FLOAT, None)],
    )
    loop = helper.make_node("Loop", ["m", "", "x"], ["y"], body=body)
    model = graph([loop], ["N", 4], {"w": (4, 4)}, {"m": np.array(2)})
    info, reason = operations_info(model, {}, {"x": (1, 4)})
    assert (info.before, info.effective) == (None, None)
    assert reason is not None
    assert "Loop" in reason


def test_an_operand_that_is_made_of_several_weights_has_the_kept_share_of_all() -> None:
    nodes = [
        helper.make_node("Concat", ["v", "w"], ["both"], axis=1),
        helper.make_node("MatMul", ["x", "both"], ["y"]),
    ]
    model = graph(nodes, ["N", 4], {"v": (4, 2), "w": (4, 6)})
    masks = {"v": np.ones((4, 2), bool), "w": half(4, 6)}
    assert count_operations(model, masks, {"x": (1, 4)}) == 8 + 12
