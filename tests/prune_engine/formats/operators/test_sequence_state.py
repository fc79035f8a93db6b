"""TensorScatter, LinearAttention and CausalConvWithState against ONNX's reference implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from prune_engine.errors import UnsupportedOperatorError
from prune_engine.formats.importer import compile_graph, import_onnx
from tests.prune_engine.formats.operators.one_node import (
    MICROSOFT,
    Inputs,
    agree,
    by_onnxruntime,
    by_reference,
    computed,
    gradient_agrees,
    model,
)

RANDOM = np.random.default_rng(5)


def values(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def check(operator: str, inputs: Inputs, outputs: int = 1, opset: int = 27, **options: Any) -> None:
    proto = model(operator, inputs, outputs, opset=opset, **options)
    agree(proto, inputs, by_reference(proto, inputs))
    gradient_agrees(proto, inputs)


def check_fused(operator: str, inputs: Inputs, **options: Any) -> None:
    """onnxruntime's own operator of the same name."""
    proto = model(operator, inputs, 2, domain=MICROSOFT, **options)
    agree(proto, inputs, by_onnxruntime(proto, inputs))
    gradient_agrees(proto, inputs)


@pytest.mark.parametrize("axis", [-2, 1, 2, -1])
@pytest.mark.parametrize(("mode", "starts"), [("linear", [1, 2]), ("circular", [3, 4]), ("linear", None)])
def test_tensor_scatter(mode: str, starts: list[int] | None, axis: int) -> None:
    shape, part = [2, 5, 5, 5], [2, 5, 5, 5]
    part[axis] = 3
    inputs = {
        "past_cache": values(*shape),
        "update": values(*part),
        "write_indices": None if starts is None else np.array(starts),
    }
    check("TensorScatter", inputs, opset=24, mode=mode, axis=axis)


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
@pytest.mark.parametrize("heads", [2, 4])
@pytest.mark.parametrize("past", [True, False])
def test_linear_attention(past: bool, heads: int, rule: str) -> None:
    batch, time, key_heads, size, value_size = 2, 3, 2, 3, 4
    for wide in (True, False):
        decay = -np.abs(values(batch, time, key_heads * (size if wide else 1)))
        beta = np.abs(values(batch, time, key_heads if wide else 1))
        inputs = {
            "query": values(batch, time, heads * size),
            "key": values(batch, time, key_heads * size),
            "value": values(batch, time, key_heads * value_size),
            "past_state": values(batch, key_heads, size, value_size) if past else None,
            "decay": decay if "gated" in rule else None,
            "beta": beta if "delta" in rule else None,
        }
        options = {"q_num_heads": heads, "kv_num_heads": key_heads, "update_rule": rule}
        check("LinearAttention", inputs, 2, **options)
        check("LinearAttention", inputs, 1, scale=0.5, **options)
        check_fused("LinearAttention", inputs, **options)


def test_linear_attention_over_no_time_steps() -> None:
    inputs = {"query": values(2, 0, 4), "key": values(2, 0, 4), "value": values(2, 0, 6)}
    proto = model("LinearAttention", inputs, 2, opset=27, q_num_heads=2, kv_num_heads=2, update_rule="linear")
    y, state = computed(compile_graph(proto), proto, inputs)
    assert tuple(y.shape) == (2, 0, 6)
    assert not state.any()


@pytest.mark.parametrize("activation", ["none", "silu", "swish"])
@pytest.mark.parametrize("kernel", [1, 3])
def test_causal_convolution(kernel: int, activation: str) -> None:
    for bias, past in ((True, True), (False, False), (True, False)):
        inputs = {
            "input": values(2, 4, 5),
            "weight": values(4, 1, kernel),
            "bias": values(4) if bias else None,
            "past_state": values(2, 4, kernel - 1) if past else None,
        }
        check("CausalConvWithState", inputs, 2, activation=activation)
        check_fused("CausalConvWithState", inputs, activation=activation)
        if past and kernel > 1:
            inputs["past_state"] = values(2, 4, 2 * (kernel - 1))
        check_fused("CausalConvWithState", inputs, activation=activation, dilation=2)
    proto = model("CausalConvWithState", inputs, 1, opset=27, constants=["weight"])
    assert [weight.kind for weight in import_onnx(proto).prunable] == ["Conv"]


@pytest.mark.parametrize(
    ("operator", "options", "what"),
    [
        ("CausalConvWithState", {"state_window": 2}, "state_window"),
        ("CausalConvWithState", {"ndim": 2}, "layout"),
        ("CausalConvWithState", {"channels_last": 1}, "layout"),
        ("LinearAttention", {"q_num_heads": 2, "kv_num_heads": 2, "state_window": 2}, "state_window"),
        ("LinearAttention", {"q_num_heads": 1, "kv_num_heads": 2}, "key heads"),
    ],
)
def test_what_is_refused_by_name(operator: str, options: dict[str, int], what: str) -> None:
    inputs = {"query": values(2, 4, 4), "key": values(2, 4, 4), "value": values(2, 4, 4)}
    with pytest.raises(UnsupportedOperatorError, match=what):
        compile_graph(model(operator, inputs, 2, domain=MICROSOFT, **options))
