"""GELU written out in nodes is computed as one, in whatever order; near misses are left alone."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from prune_engine.formats import import_onnx
from prune_engine.formats.fusing import fused
from prune_engine.formats.reading import read_graph
from tests.prune_engine.formats.graphs import FLOAT, model, values
from tests.prune_engine.formats.running import distance, run

PRODUCT = helper.make_node("MatMul", ["x", "w"], ["h"])
CONSTANTS = {
    "w": values(4, 3),
    "root": np.float32(math.sqrt(2)),
    "inverse": np.float32(math.sqrt(0.5)),
    "one": np.float32(1),
    "half": np.array([0.5], np.float32),
    "two": np.float32(2),
    "near": np.float32(1.4),
}


def node(operator: str, first: str, second: str, result: str) -> onnx.NodeProto:
    return helper.make_node(operator, [first, second], [result], name=result)


SCALED = node("Div", "h", "root", "s")
ERF = helper.make_node("Erf", ["s"], ["e"])
PLUS = node("Add", "e", "one", "p")
ORDERS = {
    "half last": [SCALED, ERF, PLUS, node("Mul", "h", "p", "q"), node("Mul", "q", "half", "y")],
    "half first": [SCALED, ERF, PLUS, node("Mul", "h", "half", "a"), node("Mul", "a", "p", "y")],
    "half within": [SCALED, ERF, PLUS, node("Mul", "half", "p", "q"), node("Mul", "h", "q", "y")],
    "product and quotient": [
        node("Mul", "inverse", "h", "s"), ERF, node("Add", "one", "e", "p"), node("Mul", "p", "h", "q"),
        node("Div", "q", "two", "y"),
    ],
}  # fmt: skip
OTHERS = {
    "another constant": [node("Div", "h", "near", "s"), *ORDERS["half last"][1:]],
    "no half": [SCALED, ERF, PLUS, node("Mul", "h", "p", "q"), node("Mul", "q", "two", "y")],
    "another input": [
        SCALED, ERF, PLUS, helper.make_node("Relu", ["h"], ["r"]), node("Mul", "r", "p", "q"),
        node("Mul", "q", "half", "y"),
    ],
    "read elsewhere": [*ORDERS["half last"][:4], node("Mul", "q", "half", "g"), node("Add", "g", "p", "y")],
    "half over": [SCALED, ERF, PLUS, node("Mul", "h", "p", "q"), node("Div", "half", "q", "y")],
}  # fmt: skip


def operators(proto: onnx.ModelProto) -> list[str]:
    return [part.op_type for part in fused(read_graph(proto)).nodes]


@pytest.mark.parametrize("order", ORDERS)
def test_gelu_is_one_node_with_the_same_values_and_gradients(order: str) -> None:
    proto = model([PRODUCT, *ORDERS[order]], CONSTANTS)
    before = proto.SerializeToString()
    assert operators(proto) == ["MatMul", "Gelu"]
    module = import_onnx(proto)
    x = torch.randn(5, 4)
    assert distance(module(x), run(proto, x)) < 1e-6
    module(x)[0].sum().backward()
    weight = torch.from_numpy(CONSTANTS["w"]).clone().requires_grad_()
    torch.nn.functional.gelu(x @ weight).sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(module.weights["w"].grad, weight.grad, rtol=1e-5, atol=1e-6)
    assert proto.SerializeToString() == before


@pytest.mark.parametrize("other", OTHERS)
def test_what_only_looks_like_it_is_left_alone(other: str) -> None:
    proto = model([PRODUCT, *OTHERS[other]], CONSTANTS)
    assert "Gelu" not in operators(proto)
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))  # "half over" divides: by no near zero
    assert distance(import_onnx(proto)(x), run(proto, x)) < 1e-6


def test_a_value_in_between_that_is_an_output_stays() -> None:
    proto = model([PRODUCT, *ORDERS["half last"]], CONSTANTS)
    proto.graph.output.append(helper.make_tensor_value_info("p", FLOAT, None))
    assert "Gelu" not in operators(proto)
    x = torch.randn(5, 4)
    assert distance(import_onnx(proto)(x), run(proto, x)) < 1e-6
