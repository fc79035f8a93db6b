"""onnxruntime's fused attention against onnxruntime; what its CPU lacks, against another form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from prune_engine.errors import UnsupportedOperatorError
from prune_engine.formats.importer import compile_graph, import_onnx
from tests.prune_engine.formats.operators.one_node import (
    MICROSOFT,
    Inputs,
    agree,
    by_onnxruntime,
    computed,
    gradient_agrees,
    model,
)

RANDOM = np.random.default_rng(23)
BATCH, LENGTH, KEYS, HEADS, SIZE, INPUTS = 2, 4, 6, 2, 8, 10
HIDDEN = HEADS * SIZE


def values(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def ints(*rows: Any) -> np.ndarray:
    return np.array(rows, np.int32)


def check(
    operator: str,
    inputs: Inputs,
    outputs: Any = 1,
    *,
    tolerance: float = 2e-5,
    gradient: bool = True,
    **options: Any,
) -> None:
    proto = model(operator, inputs, outputs, domain=MICROSOFT, **options)
    agree(proto, inputs, by_onnxruntime(proto, inputs), tolerance)
    if gradient:
        gradient_agrees(proto, inputs)


def projected(**more: np.ndarray | None) -> dict[str, np.ndarray | None]:
    known = dict.fromkeys(("mask", "past", "added"))
    weight = 0.3 * values(INPUTS, 3 * HIDDEN)
    return {"x": values(BATCH, LENGTH, INPUTS), "w": weight, "b": values(3 * HIDDEN), **known, **more}


MASKS = {
    "two axes": ints([1, 1, 1, 0], [1, 1, 0, 0]),
    "a row that is hidden": ints([0, 0, 0, 0], [1, 1, 0, 0]),
    "three axes": RANDOM.integers(0, 2, (BATCH, LENGTH, LENGTH)).astype(np.int32),
    "lengths": ints(3, 2),
    "ends and starts": ints(3, 4, 1, 2),
    "lengths and offsets": ints(3, 2, 0, 3, 5, 0, 3, 5),
}


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("mask", [None, *MASKS])
def test_attention(mask: str | None, causal: int) -> None:
    inputs = projected(mask=MASKS.get(mask or ""))
    # a row without any key is a difference of large numbers
    tolerance = 1e-3 if mask in ("a row that is hidden", "three axes") else 2e-5
    options = {"num_heads": HEADS, "unidirectional": causal}
    check("Attention", inputs, tolerance=tolerance, gradient=tolerance < 1e-4, **options)


@pytest.mark.parametrize("causal", [0, 1])
def test_attention_bias_scale_and_filler(causal: int) -> None:
    options = {"num_heads": HEADS, "unidirectional": causal}
    for shape in ((BATCH, HEADS, LENGTH, LENGTH), (1, 1, LENGTH, LENGTH)):
        check("Attention", projected(added=values(*shape)), **options)
    both = projected(mask=MASKS["two axes"], added=values(BATCH, HEADS, LENGTH, LENGTH))
    check("Attention", both, mask_filter_value=-3.0, scale=0.7, **options)


@pytest.mark.parametrize("causal", [0, 1])
def test_attention_with_a_past(causal: int) -> None:
    options = {"num_heads": HEADS, "unidirectional": causal}
    past = values(2, BATCH, HEADS, 3, SIZE)
    check("Attention", projected(past=past), 2, **options)
    mask = ints([1] * 5 + [0] * 2, [0] + [1] * 6)
    check("Attention", projected(past=past, mask=mask), 2, **options)
    check("Attention", projected(), 2, **options)


def test_values_of_another_size() -> None:
    inputs = {"x": values(BATCH, LENGTH, INPUTS), "w": values(INPUTS, 40), "b": values(40)}
    check("Attention", inputs, num_heads=HEADS, qkv_hidden_sizes=[16, 16, 8])


def test_no_bias_is_a_bias_of_zero() -> None:
    """onnxruntime ends the process without one."""
    inputs = {**projected(), "b": np.zeros(3 * HIDDEN, np.float32)}
    wanted = by_onnxruntime(model("Attention", inputs, domain=MICROSOFT, num_heads=HEADS), inputs)
    without = {**inputs, "b": None}
    agree(model("Attention", without, domain=MICROSOFT, num_heads=HEADS), without, wanted)


def test_the_projection_is_prunable() -> None:
    inputs = projected()
    proto = model("Attention", inputs, domain=MICROSOFT, constants=["w", "b"], num_heads=HEADS)
    module = import_onnx(proto)
    assert [(w.name, w.kind, w.output_axis) for w in module.prunable] == [("w", "MatMul", 1)]
    computed(module, proto, inputs)[0].square().sum().backward()
    assert {name: bool(w.grad.any()) for name, w in module.weights.items()} == {"w": True, "b": True}


REFUSED = {
    "past_present_share_buffer": ("Attention", {"past_present_share_buffer": 1}, projected()),
    "do_rotary": ("Attention", {"do_rotary": 1}, projected()),
    "mask of four axes": ("Attention", {}, projected(mask=np.ones((BATCH, 1, 6, 6), np.int32))),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_onnxruntimes_cpu_has_not_is_refused_by_name(what: str) -> None:
    operator, options, inputs = REFUSED[what]
    with pytest.raises(UnsupportedOperatorError, match=what):
        compile_graph(model(operator, inputs, domain=MICROSOFT, num_heads=HEADS, **options))


def apart(
    keys: int = KEYS, value_size: int = SIZE, **more: np.ndarray | None
) -> dict[str, np.ndarray | None]:
    known = dict.fromkeys(("bias", "padding", "added", "past_key", "past_value"))
    return {
        "q": values(BATCH, LENGTH, HIDDEN),
        "k": values(BATCH, keys, HIDDEN),
        "v": values(BATCH, keys, HEADS * value_size),
        **known,
        **more,
    }


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("keys", [LENGTH, KEYS])
def test_multi_head_attention(keys: int, causal: int) -> None:
    options = {"num_heads": HEADS, "unidirectional": causal}
    check("MultiHeadAttention", apart(keys), scale=0.4, **options)
    check("MultiHeadAttention", apart(keys, 5, bias=values(2 * HIDDEN + HEADS * 5)), **options)
    check("MultiHeadAttention", apart(keys, added=values(1, HEADS, LENGTH, keys)), **options)
    four = {"k": values(BATCH, HEADS, keys, SIZE), "v": values(BATCH, HEADS, keys, SIZE)}
    check("MultiHeadAttention", {**apart(), **four}, **options)
    check("MultiHeadAttention", {**apart(bias=values(3 * HIDDEN)), **four}, **options)


PADDINGS = {
    "two axes": ints([1, 1, 1, 0, 1, 0], [1, 1, 0, 0, 0, 0]),
    "lengths": ints(3, 5),
    "three axes": np.tril(np.ones((BATCH, LENGTH, KEYS), np.int32)),
}


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("padding", PADDINGS)
def test_padded_keys(padding: str, causal: int) -> None:
    options = {"num_heads": HEADS, "unidirectional": causal}
    check("MultiHeadAttention", apart(padding=PADDINGS[padding]), **options)
    both = apart(padding=PADDINGS[padding], added=values(BATCH, 1, LENGTH, KEYS))
    check("MultiHeadAttention", both, mask_filter_value=-2.0, **options)
    outputs = ["y", "", "", "scores"]
    check("MultiHeadAttention", both, outputs, mask_filter_value=-2.0, gradient=not causal, **options)


@pytest.mark.parametrize("causal", [0, 1])
def test_multi_head_attention_with_a_past(causal: int) -> None:
    options = {"num_heads": HEADS, "unidirectional": causal}
    past = {"past_key": values(BATCH, HEADS, 3, SIZE), "past_value": values(BATCH, HEADS, 3, SIZE)}
    for bias in (None, values(3 * HIDDEN)):
        check("MultiHeadAttention", apart(LENGTH, bias=bias, **past), 3, **options)
        check("MultiHeadAttention", apart(LENGTH, bias=bias), 3, **options)


def test_packed_operands() -> None:
    inputs = apart(LENGTH, bias=values(3 * HIDDEN))
    wanted = by_onnxruntime(model("MultiHeadAttention", inputs, domain=MICROSOFT, num_heads=HEADS), inputs)
    q, k, v = (inputs[name].reshape(BATCH, LENGTH, HEADS, SIZE) for name in "qkv")
    pair = {**inputs, "k": np.stack([k, v], 3), "v": None}
    agree(model("MultiHeadAttention", pair, domain=MICROSOFT, num_heads=HEADS), pair, wanted)
    three = {**pair, "q": np.stack([q, k, v], 3), "k": None}
    agree(model("MultiHeadAttention", three, domain=MICROSOFT, num_heads=HEADS), three, wanted)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("part", [0, 4])
def test_rotary_embedding(part: int, interleaved: int) -> None:
    tables = {"cos": values(7, (part or SIZE) // 2), "sin": values(7, (part or SIZE) // 2)}
    options = {"interleaved": interleaved, "rotary_embedding_dim": part, "num_heads": HEADS if part else 0}
    for x in (values(BATCH, LENGTH, HIDDEN), values(BATCH, HEADS, LENGTH, SIZE)):
        for positions in (RANDOM.integers(0, 7, (BATCH, LENGTH)), np.array([2])):
            inputs = {"x": x, "positions": positions, **tables}
            check("RotaryEmbedding", inputs, scale=1.0, **options)


KEY_HEADS, WIDE = 2, 16


def grouped(
    length: int,
    last: list[int],
    past: int | None = 0,
    *,
    packed: bool = False,
    rotary: bool = False,
    **more: Any,
) -> dict[str, np.ndarray | None]:
    batch, keys = len(last), KEY_HEADS * WIDE
    cache = None if past is None else values(batch, KEY_HEADS, past, WIDE)
    return {
        "q": values(batch, length, 4 * WIDE + 2 * keys * packed),
        "k": None if packed else values(batch, length, keys),
        "v": None if packed else values(batch, length, keys),
        "past_key": cache,
        "past_value": cache,
        "last": np.array(last, np.int32),
        "total": np.array(max(last) + 1, np.int32),
        "cos": values(20, WIDE // 2) if rotary else None,
        "sin": values(20, WIDE // 2) if rotary else None,
        **dict.fromkeys(("positions", "added", "sink")),
        **more,
    }


GROUPED = {"num_heads": 4, "kv_num_heads": KEY_HEADS}
CACHES: dict[str, tuple[int, list[int], int | None]] = {
    "prompt": (4, [3, 3], 0),
    "prompt without a cache": (4, [3, 3], None),
    "prompt of different lengths": (4, [3, 2], 0),
    "prompt into a buffer": (4, [3, 3], 8),
    "one more token": (1, [3, 3], 3),
    "one more token at different places": (1, [3, 2], 3),
    "one more token in a buffer": (1, [3, 3], 8),
    "two more tokens": (2, [4], 3),
}


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("cache", CACHES)
def test_group_query_attention(cache: str, packed: bool, rotary: bool) -> None:
    inputs = grouped(*CACHES[cache], packed=packed, rotary=rotary)
    check("GroupQueryAttention", inputs, 3, do_rotary=int(rotary), **GROUPED)


@pytest.mark.parametrize(
    "options",
    [
        {"softcap": 2.0},
        {"local_window_size": 2},
        {"smooth_softmax": 1},
        {"smooth_softmax": 1, "softcap": 2.0},
        {"scale": 0.4},
        {"causal": 0},
    ],
)
@pytest.mark.parametrize("cache", ["prompt", "one more token"])
def test_options_of_group_query_attention(cache: str, options: dict[str, Any]) -> None:
    check("GroupQueryAttention", grouped(*CACHES[cache]), 3, **GROUPED, **options)


def test_inputs_of_group_query_attention() -> None:
    check("GroupQueryAttention", grouped(4, [3, 3], sink=values(4)), 3, **GROUPED)
    check("GroupQueryAttention", grouped(4, [3, 3], added=values(2, 1, 4, 4)), 1, **GROUPED)
    check("GroupQueryAttention", grouped(1, [3, 3], 3, added=values(1, 4, 1, 4)), 3, **GROUPED)
    turned = {"do_rotary": 1, **GROUPED}
    for interleaved in (0, 1):
        inputs = grouped(4, [3, 3], rotary=True)
        check("GroupQueryAttention", inputs, 3, rotary_interleaved=interleaved, **turned)
    places = np.array([[2, 3, 4, 5], [0, 1, 2, 3]])
    check("GroupQueryAttention", grouped(4, [3, 3], rotary=True, positions=places), 3, **turned)
    places = np.array([[7], [1]])
    check("GroupQueryAttention", grouped(1, [3, 3], 3, rotary=True, positions=places), 3, **turned)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"k_quant_type": "PER_TENSOR"}, "quantised cache"),
        ({"sliding_window_cache": 1}, "sliding_window_cache"),
    ],
)
def test_caches_that_are_refused_by_name(options: dict[str, Any], what: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=what):
        compile_graph(
            model("GroupQueryAttention", grouped(4, [3, 3]), domain=MICROSOFT, **GROUPED, **options)
        )


def test_a_hidden_row_has_a_finite_gradient() -> None:
    inputs = projected(mask=MASKS["a row that is hidden"])
    proto = model("Attention", inputs, domain=MICROSOFT, num_heads=HEADS, unidirectional=1)
    x = torch.from_numpy(inputs["x"]).requires_grad_()
    rest = [torch.from_numpy(inputs[name]) for name in ("w", "b", "mask")]
    compile_graph(proto)(x, *rest)[0].square().sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
