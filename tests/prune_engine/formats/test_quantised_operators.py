"""Integer weights of quantised arithmetic, and damaged files of all kinds."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from prune_engine.errors import InputError
from prune_engine.formats import import_onnx, not_prunable, write_back
from prune_engine.formats.reading import read_graph
from prune_engine.formats.weights import find_roles
from tests.prune_engine.formats.quantised_graphs import (
    INPUT,
    LAYERS,
    OPERATORS,
    OUTPUT,
    RANDOM,
    check,
    constants_of,
    model,
    quantised_input,
    quantised_layer,
    run,
    steps,
    stored,
)
from tests.prune_engine.formats.running import distance


@pytest.mark.parametrize("name", OPERATORS)
def test_integer_weights_of_quantised_arithmetic(name: str) -> None:
    kind, shape, x_shape, nodes, microsoft = OPERATORS[name]
    constants = {"w": stored(shape), "w_s": steps(), "w_z": np.array(0, np.int8)} | INPUT | OUTPUT
    proto = model(nodes, constants, x_shape, microsoft=microsoft)
    x = torch.from_numpy((RANDOM.standard_normal(x_shape) / 2).astype(np.float32))
    check(proto, x, kind)


@pytest.mark.parametrize("by_channel", [False, True])
def test_the_bias_of_a_quantised_convolution_is_trained_in_steps_of_its_product(by_channel: bool) -> None:
    inputs = ["q8", "x_s", "x_z", "w", "w_s", "w_z", "y_s", "y_z", "b"]
    nodes = quantised_input(
        helper.make_node("QLinearConv", inputs, ["c"], name="it"),
        helper.make_node("DequantizeLinear", ["c", "y_s", "y_z"], ["y"]),
    )
    scales = steps(6) if by_channel else steps()
    zeros = np.zeros(scales.shape, np.int8)
    constants = {"w": stored((6, 3, 3, 3)), "w_s": scales, "w_z": zeros} | INPUT | OUTPUT
    proto = model(nodes, constants | {"b": np.arange(-300, 300, 100, dtype=np.int32)}, (2, 3, 6, 6))
    x = torch.from_numpy((RANDOM.standard_normal((2, 3, 6, 6)) / 2).astype(np.float32))
    module = check(proto, x, "Conv")
    with torch.no_grad():
        module.weights["b"][1] += 20.4 * 0.03 * float(scales.reshape(-1)[int(by_channel)])
    written = write_back(proto, module.state_values())
    assert constants_of(written)["b"].tolist() == [-300, -180, -100, 0, 100, 200]
    assert distance(module(x), run(written, x)) < 1e-5
    graph = read_graph(proto)
    reasons = {name: reason for name, _, reason in not_prunable(graph, find_roles(graph))}
    assert reasons["b"] == "bias"
    assert reasons["w_s"] == reasons["y_s"] == "quantisation scale"


def test_a_scale_by_column_of_a_quantised_product() -> None:
    kind, shape, x_shape, nodes, _ = OPERATORS["QLinearMatMul"]
    constants = {"w": stored(shape), "w_s": steps(5), "w_z": np.zeros(5, np.int8)} | INPUT | OUTPUT
    x = torch.from_numpy((RANDOM.standard_normal(x_shape) / 2).astype(np.float32))
    check(model(nodes, constants, x_shape), x, kind)


def damage(proto: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """One to three changes that an honest writer would not make."""
    random = np.random.default_rng(seed)
    broken = onnx.ModelProto()
    broken.CopyFrom(proto)
    for _ in range(random.integers(1, 4)):
        node = broken.graph.node[random.integers(len(broken.graph.node))]
        tensor = broken.graph.initializer[random.integers(len(broken.graph.initializer))]
        kind = random.integers(6)
        if kind == 0 and node.input:
            del node.input[random.integers(len(node.input))]
        elif kind == 1 and node.input:
            node.input[random.integers(len(node.input))] = tensor.name
        elif kind == 2:
            tensor.dims.insert(0, int(random.integers(1, 3)))
        elif kind == 3:
            shape = random.integers(0, 4, random.integers(4))
            values = np.zeros(shape, [np.float32, np.int8, np.int32, np.uint8][random.integers(4)])
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        elif kind == 4:
            for attribute in node.attribute:
                attribute.i = int(random.integers(-9, 9))
        else:
            node.op_type = ["DequantizeLinear", "QuantizeLinear", "MatMulInteger", "Gather"][
                random.integers(4)
            ]
    return broken


@pytest.mark.parametrize("name", [*LAYERS, *OPERATORS])
def test_a_damaged_file_is_bad_input_and_nothing_worse(name: str) -> None:
    if name in LAYERS:
        proto = quantised_layer(LAYERS[name], axis=LAYERS[name].output_axis)
    else:
        _, shape, x_shape, nodes, microsoft = OPERATORS[name]
        constants = {"w": stored(shape), "w_s": steps(), "w_z": np.array(0, np.int8)} | INPUT | OUTPUT
        proto = model(nodes, constants, x_shape, microsoft=microsoft)
    refused = 0
    for seed in range(60):
        try:
            import_onnx(damage(proto, seed)).state_values()
        except InputError:
            refused += 1
    assert refused > 5
