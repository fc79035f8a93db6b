"""FlexAttention, with and without subgraphs on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from prune_engine.errors import ModelError
from prune_engine.formats.importer import compile_graph
from prune_engine.formats.operators.flex_attention import PREVIEW
from tests.prune_engine.formats.operators.one_node import agree, gradient_agrees, model

RANDOM = np.random.default_rng(51)
INPUTS = {
    "q": RANDOM.standard_normal((2, 4, 3, 5)).astype(np.float32),
    "k": RANDOM.standard_normal((2, 2, 6, 5)).astype(np.float32),
    "v": RANDOM.standard_normal((2, 2, 6, 7)).astype(np.float32),
}


def body(nodes: list[onnx.NodeProto], inputs: int = 1) -> onnx.GraphProto:
    value = helper.make_tensor_value_info
    given = [value(f"given{i}", TensorProto.FLOAT, None) for i in range(inputs)]
    return helper.make_graph(nodes, "body", given, [value("changed", TensorProto.FLOAT, None)])


def expected(scale: float, limit: float | None = None, kept: float = 1.0) -> np.ndarray:
    k, v = INPUTS["k"].repeat(2, 1), INPUTS["v"].repeat(2, 1)
    scores = INPUTS["q"] @ k.swapaxes(-1, -2) * scale
    scores = scores if limit is None else np.tanh(scores / limit) * limit
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return kept * (weights / weights.sum(-1, keepdims=True)) @ v


@pytest.mark.parametrize("scale", [None, 0.3])
def test_heads_share_keys(scale: float | None) -> None:
    options = {} if scale is None else {"scale": scale}
    proto = model("FlexAttention", INPUTS, opset=26, domain=PREVIEW, **options)
    agree(proto, INPUTS, [expected(scale or 5**-0.5)])
    gradient_agrees(proto, INPUTS)


def test_subgraphs_change_scores_and_probabilities_and_read_outer_values() -> None:
    cap = [
        helper.make_node("Div", ["given0", "limit"], ["part"]),
        helper.make_node("Tanh", ["part"], ["bounded"]),
        helper.make_node("Mul", ["bounded", "limit"], ["changed"]),
    ]
    keep = [helper.make_node("Mul", ["given0", "kept"], ["changed"])]
    inputs: dict[str, Any] = INPUTS | {"limit": np.array(0.8, np.float32), "kept": np.array(0.5, np.float32)}
    proto = model("FlexAttention", INPUTS, opset=26, domain=PREVIEW, score_mod=body(cap), prob_mod=body(keep))
    for name in ("limit", "kept"):
        proto.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, []))
    agree(proto, inputs, [expected(5**-0.5, 0.8, 0.5)])
    gradient_agrees(proto, inputs)


def test_a_modifier_has_one_input() -> None:
    two = body([helper.make_node("Add", ["given0", "given1"], ["changed"])], inputs=2)
    with pytest.raises(ModelError, match="one input and one output"):
        compile_graph(model("FlexAttention", INPUTS, opset=26, domain=PREVIEW, score_mod=two))
