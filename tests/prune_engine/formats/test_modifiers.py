"""FlexAttention in a graph: what comes before it trains, and it is written back as it was."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from prune_engine.errors import UnsupportedOperatorError
from prune_engine.formats import import_onnx
from prune_engine.formats.write_back import write_back

RANDOM = np.random.default_rng(29)
CAPPED = """
<ir_version: 11, opset_import: ["" : 24, "ai.onnx.preview" : 1]>
capped (float[N, 4, 5, 8] x) => (float[N, 4, 5, 8] y)
{
    q = MatMul (x, w)
    y = ai.onnx.preview.FlexAttention <
        score_mod: graph = cap (float[B, H, L, S] scores) => (float[B, H, L, S] bounded) {
        limit = Constant <value_float = 0.5> ()
        scaled = Div (scores, limit)
        bent = Tanh (scaled)
        bounded = Mul (bent, limit)
    }> (q, x, x)
}
"""


def capped() -> onnx.ModelProto:
    proto = onnx.parser.parse_model(CAPPED)
    weight = RANDOM.standard_normal((8, 8)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    return proto


def test_flex_attention_trains_what_comes_before_it_and_stays_in_the_file() -> None:
    proto = capped()
    module = import_onnx(proto)
    x = RANDOM.standard_normal((2, 4, 5, 8)).astype(np.float32)
    (found,) = module(torch.from_numpy(x))
    (wanted,) = ReferenceEvaluator(proto).run(None, {"x": x})
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-4, atol=1e-5)
    found.square().sum().backward()
    assert [weight.name for weight in module.prunable] == ["w"]
    gradient = module.weights["w"].grad
    assert gradient is not None
    assert bool(gradient.isfinite().all())
    assert bool(gradient.any())
    back = write_back(proto, module.state_values())
    assert [node.op_type for node in back.graph.node] == ["MatMul", "FlexAttention"]
    assert back.graph.node[1] == proto.graph.node[1]


def test_an_operator_in_a_subgraph_is_named() -> None:
    proto = capped()
    proto.graph.node[1].attribute[0].g.node[0].op_type = "Unheard"
    with pytest.raises(UnsupportedOperatorError, match="Unheard"):
        import_onnx(proto)
