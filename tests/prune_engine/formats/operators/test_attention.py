"""Attention and RotaryEmbedding against onnxruntime, or ONNX's reference where it lacks an option."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from prune_engine.formats.importer import compile_graph
from tests.prune_engine.formats.operators.one_node import (
    Inputs,
    agree,
    by_onnxruntime,
    by_reference,
    computed,
    gradient_agrees,
    model,
)

BATCH, HEADS, KEY_HEADS, LENGTH, KEYS, SIZE, VALUE_SIZE = 2, 4, 2, 4, 6, 8, 5
RANDOM = np.random.default_rng(7)
CAUSAL = np.triu(np.full((LENGTH, KEYS), -np.inf, np.float32), 2)
ALLOWED = RANDOM.random((BATCH, 1, LENGTH, KEYS)) < 0.6
ALLOWED[0, 0, 1] = False  # a query that may see no key at all
MASKS: dict[str, np.ndarray | None] = {
    "none": None,
    "float": CAUSAL,
    "bool": ALLOWED,
    "two axes": ALLOWED[1, 0],
    "per head": RANDOM.standard_normal((1, HEADS, LENGTH, KEYS)).astype(np.float32),
}


def values(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def heads_apart(keys: int = KEYS, heads: int = HEADS) -> dict[str, np.ndarray | None]:
    return {
        "Q": values(BATCH, heads, LENGTH, SIZE),
        "K": values(BATCH, KEY_HEADS, keys, SIZE),
        "V": values(BATCH, KEY_HEADS, keys, VALUE_SIZE),
    }


def check(
    operator: str,
    inputs: Inputs,
    outputs: Any = 1,
    reference: Any = by_onnxruntime,
    opset: int = 23,
    gradient: bool = True,
    **options: Any,
) -> None:
    proto = model(operator, inputs, outputs, opset=opset, **options)
    agree(proto, inputs, reference(proto, inputs))
    if gradient:
        gradient_agrees(proto, inputs)


@pytest.mark.parametrize("opset", [23, 24])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("softcap", [0.0, 1.5])
def test_masks(softcap: float, causal: int, mask: str, opset: int) -> None:
    inputs = {**heads_apart(), "attn_mask": MASKS[mask]}
    check("Attention", inputs, opset=opset, is_causal=causal, softcap=softcap)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("softcap", [0.0, 1.5])
def test_heads_side_by_side(softcap: float, mask: str) -> None:
    inputs = {
        "Q": values(BATCH, LENGTH, HEADS * SIZE),
        "K": values(BATCH, KEYS, KEY_HEADS * SIZE),
        "V": values(BATCH, KEYS, KEY_HEADS * VALUE_SIZE),
        "attn_mask": MASKS[mask],
    }
    check("Attention", inputs, softcap=softcap, scale=0.3, q_num_heads=HEADS, kv_num_heads=KEY_HEADS)


@pytest.mark.parametrize("causal", [0, 1])
def test_as_many_key_heads_as_query_heads(causal: int) -> None:
    check("Attention", heads_apart(heads=KEY_HEADS), is_causal=causal)


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
@pytest.mark.parametrize("softcap", [0.0, 1.5])
def test_the_scores_as_an_output(softcap: float, mode: int) -> None:
    inputs = {**heads_apart(), "attn_mask": MASKS["per head"]}
    outputs = ["y", "", "", "scores"]
    check("Attention", inputs, outputs, softcap=softcap, qk_matmul_output_mode=mode)


def test_the_weights_of_a_query_without_keys_are_zero() -> None:
    inputs = {**heads_apart(), "attn_mask": ALLOWED}
    outputs = ["y", "", "", "scores"]
    check("Attention", inputs, outputs, by_reference, opset=24, qk_matmul_output_mode=3)


@pytest.mark.parametrize("causal", [0, 1])
def test_past_keys_come_first_and_shift_the_queries(causal: int) -> None:
    inputs = {
        **heads_apart(keys=LENGTH),
        "attn_mask": None,
        "past_key": values(BATCH, KEY_HEADS, 3, SIZE),
        "past_value": values(BATCH, KEY_HEADS, 3, VALUE_SIZE),
    }
    check("Attention", inputs, 3, is_causal=causal)


@pytest.mark.parametrize("mask", ["none", "float", "bool"])
@pytest.mark.parametrize("causal", [0, 1])
def test_a_cache_that_is_partly_filled(causal: int, mask: str) -> None:
    inputs = {
        **heads_apart(),
        "attn_mask": MASKS[mask],
        "past_key": None,
        "past_value": None,
        "nonpad_kv_seqlen": np.array([3, 6]),
    }
    for reference in (by_onnxruntime, by_reference):
        check("Attention", inputs, 1, reference, opset=24, is_causal=causal)


@pytest.mark.parametrize(("left", "right"), [(1, -1), (-1, 1), (2, 0), (0, 2)])
@pytest.mark.parametrize("causal", [0, 1])
def test_windows(causal: int, left: int, right: int) -> None:
    windows = {"left_window_size": left, "right_window_size": right}
    inputs: dict[str, np.ndarray | None] = {**heads_apart(), "attn_mask": CAUSAL}
    check("Attention", inputs, 1, by_reference, opset=25, is_causal=causal, **windows)
    del inputs["attn_mask"]
    check("Attention", inputs, 1, by_reference, opset=25, is_causal=causal, **windows)


def test_a_mask_that_is_shorter_than_the_keys_hides_the_rest() -> None:
    for mask in (ALLOWED[1, 0, :, :4], CAUSAL[:, :3]):
        inputs = {**heads_apart(), "attn_mask": np.ascontiguousarray(mask)}
        check("Attention", inputs, 1, by_reference, opset=24)


def test_a_query_without_keys_has_a_finite_gradient() -> None:
    for mask in (ALLOWED, np.where(ALLOWED, 0, -np.inf).astype(np.float32)):
        for softcap in (0.0, 1.5):
            inputs = {**heads_apart(), "attn_mask": mask}
            proto = model("Attention", inputs, opset=24, softcap=softcap)
            given = [torch.from_numpy(inputs[name]).requires_grad_() for name in ("Q", "K", "V")]
            y = compile_graph(proto)(*given, torch.from_numpy(mask))[0]
            assert bool((y[0, :, 1] == 0).all())
            y.square().sum().backward()
            assert all(bool(value.grad.isfinite().all()) for value in given)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("part", [0, 4])
@pytest.mark.parametrize("by_position", [True, False])
def test_rotary_embedding(by_position: bool, part: int, interleaved: int) -> None:
    half = (part or SIZE) // 2
    tables = (10, half) if by_position else (BATCH, LENGTH, half)
    rest = {
        "cos": values(*tables),
        "sin": values(*tables),
        "position_ids": RANDOM.integers(0, 10, (BATCH, LENGTH)) if by_position else None,
    }
    options = {"interleaved": interleaved, "rotary_embedding_dim": part}
    check("RotaryEmbedding", {"X": values(BATCH, HEADS, LENGTH, SIZE), **rest}, 1, by_reference, **options)
    flat = {"X": values(BATCH, LENGTH, HEADS * SIZE), **rest}
    for reference in (by_reference, by_onnxruntime):
        check("RotaryEmbedding", flat, 1, reference, num_heads=HEADS, **options)


@pytest.mark.parametrize("axis", [-1, 1, 0, -2])
def test_rms_normalization(axis: int) -> None:
    inputs = {"X": values(2, 3, 4), "scale": values(*(2, 3, 4)[axis:])}
    check("RMSNormalization", inputs, axis=axis, epsilon=1e-3)
    check("RMSNormalization", {**inputs, "scale": values(4)}, 1, by_reference, axis=axis)


def test_rms_normalization_of_zeros_is_finite() -> None:
    inputs = {"X": np.zeros((2, 4), np.float32), "scale": values(4)}
    proto = model("RMSNormalization", inputs, opset=23)
    x = torch.zeros(2, 4, requires_grad=True)
    y = compile_graph(proto)(x, torch.from_numpy(inputs["scale"]))[0]
    y.sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_nothing_is_left_to_the_batch_size() -> None:
    inputs = heads_apart()
    proto = model("Attention", inputs, opset=23, is_causal=1)
    module = compile_graph(proto)
    once = computed(module, proto, inputs)[0]
    twice = {name: np.concatenate([value, value]) for name, value in inputs.items()}
    torch.testing.assert_close(computed(module, proto, twice)[0][:BATCH], once)
