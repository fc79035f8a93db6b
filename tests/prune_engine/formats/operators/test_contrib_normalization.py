"""onnxruntime's fused normalisations against onnxruntime, or against their parts where it has no kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

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

RANDOM = np.random.default_rng(13)


def values(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def check(operator: str, inputs: Inputs, outputs: Any = 1, domain: str = MICROSOFT, **options: Any) -> None:
    proto = model(operator, inputs, outputs, domain=domain, **options)
    agree(proto, inputs, by_onnxruntime(proto, inputs))
    gradient_agrees(proto, inputs)


@pytest.mark.parametrize("shape", [(2, 3, 8), (1, 3, 8), (3, 8)])
def test_skip_layer_normalization(shape: tuple[int, ...]) -> None:
    inputs = {"x": values(2, 3, 8), "skip": values(*shape), "gamma": values(8)}
    check("SkipLayerNormalization", inputs)
    inputs |= {"beta": values(8), "bias": values(8)}
    check("SkipLayerNormalization", inputs, ["y", "", "", "sum"], epsilon=1e-3)


def test_skip_layer_normalization_of_two_axes() -> None:
    inputs = {"x": values(5, 8), "skip": values(5, 8), "gamma": values(8), "beta": values(8)}
    check("SkipLayerNormalization", inputs)


@pytest.mark.parametrize("shape", [(2, 3, 8), (1, 3, 8), (3, 8)])
def test_skip_simplified_layer_normalization(shape: tuple[int, ...]) -> None:
    inputs = {"x": values(2, 3, 8), "skip": values(*shape), "gamma": values(8)}
    check("SkipSimplifiedLayerNormalization", inputs)
    inputs |= {"bias": values(8)}
    check("SkipSimplifiedLayerNormalization", inputs, ["y", "", "", "sum"], epsilon=1e-3)


def test_the_outputs_that_training_once_used() -> None:
    x, skip, gamma = values(2, 3, 8), values(2, 3, 8), np.ones(8, np.float32)
    inputs = {"x": x, "skip": skip, "gamma": gamma}
    total = x + skip
    for operator, power in (
        ("SkipLayerNormalization", total.var(-1, keepdims=True)),
        ("SkipSimplifiedLayerNormalization", np.square(total).mean(-1, keepdims=True)),
    ):
        proto = model(operator, inputs, 4, domain=MICROSOFT, epsilon=1e-3)
        _, mean, scale, added = computed(compile_graph(proto), proto, inputs)
        np.testing.assert_allclose(mean, total.mean(-1, keepdims=True), atol=1e-6)
        np.testing.assert_allclose(scale, 1 / np.sqrt(power + 1e-3), rtol=1e-5)
        np.testing.assert_allclose(added, total, rtol=1e-6)


@pytest.mark.parametrize("axis", [-1, 1])
def test_simplified_layer_normalization_in_the_domain_of_onnx(axis: int) -> None:
    inputs = {"x": values(2, 3, 8), "scale": values(*(2, 3, 8)[axis:])}
    check("SimplifiedLayerNormalization", inputs, 2, "", axis=axis, epsilon=1e-3)


def test_gated_rms_norm() -> None:
    inputs = {"x": values(2, 3, 8), "scale": values(4), "gate": values(2, 3, 8)}
    for activation in ("silu", "swish", "sigmoid"):
        check("GatedRMSNorm", inputs, activation=activation)


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("smooth", [0, 1])
def test_group_norm(smooth: int, last: int) -> None:
    x, gamma, beta = values(2, 8, 3, 3), values(8), values(8)
    given = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if last else x
    inputs = {"x": given, "gamma": gamma, "beta": beta}
    proto = model("GroupNorm", inputs, domain=MICROSOFT, groups=2, activation=smooth, channels_last=last)
    wanted = functional.group_norm(*map(torch.from_numpy, (x,)), 2, *map(torch.from_numpy, (gamma, beta)))
    wanted = functional.silu(wanted) if smooth else wanted
    agree(proto, inputs, [(wanted.permute(0, 2, 3, 1) if last else wanted).numpy()])
    gradient_agrees(proto, inputs)


@pytest.mark.parametrize("shape", [(2, 3, 3, 8), (2, 1, 1, 8), (2, 8)])
def test_skip_group_norm(shape: tuple[int, ...]) -> None:
    inputs = {
        "x": values(2, 3, 3, 8),
        "gamma": values(8),
        "beta": values(8),
        "skip": values(*shape),
        "bias": values(8),
    }
    proto = model("SkipGroupNorm", inputs, 2, domain=MICROSOFT, groups=4, activation=0)
    total = inputs["x"] + inputs["skip"].reshape(2, *(shape[1:-1] or (1, 1)), 8) + inputs["bias"]
    first = torch.from_numpy(total).permute(0, 3, 1, 2)
    y = functional.group_norm(first, 4, torch.from_numpy(inputs["gamma"]), torch.from_numpy(inputs["beta"]))
    agree(proto, inputs, [y.permute(0, 2, 3, 1).numpy(), total])
    options = {"groups": 4, "activation": 0, "channels_last": 0}
    with pytest.raises(UnsupportedOperatorError, match="channels_last"):
        compile_graph(model("SkipGroupNorm", inputs, domain=MICROSOFT, **options))


IDS = RANDOM.integers(0, 9, (2, 4)).astype(np.int32)
EMBEDDING: dict[str, np.ndarray | None] = {
    "ids": IDS,
    "segments": RANDOM.integers(0, 2, (2, 4)).astype(np.int32),
    "words": values(9, 8),
    "positions": values(6, 8),
    "segment_table": values(2, 8),
    "gamma": values(8),
    "beta": values(8),
}
COUNTS = {"y1": 6}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"mask": np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32)},
        {"mask": np.array([[0, 1, 1, 0], [1, 0, 1, 0]], np.int32)},
        {"segments": None, "segment_table": None},
        {"mask": None, "position_ids": np.array([[3, 2, 1, 0], [0, 1, 2, 5]], np.int32)},
        {"mask": None, "position_ids": np.array([[3, 2, 1, 0]], np.int32)},
    ],
    ids=["plain", "mask", "holes", "no segments", "positions", "one row of positions"],
)
def test_embed_layer_normalization(change: dict[str, np.ndarray | None]) -> None:
    check("EmbedLayerNormalization", {**EMBEDDING, **change}, 3, types=COUNTS, epsilon=1e-3)


def test_the_tables_that_ids_look_up_are_prunable_embeddings() -> None:
    tables = ["words", "positions", "segment_table", "gamma", "beta"]
    proto = model("EmbedLayerNormalization", EMBEDDING, domain=MICROSOFT, constants=tables)
    module = import_onnx(proto)
    assert {(w.name, w.kind, w.output_axis) for w in module.prunable} == {
        ("words", "Embedding", 0),
        ("segment_table", "Embedding", 0),
    }
    assert set(module.weights) == {"words", "segment_table", "gamma", "beta"}
    placed = {**EMBEDDING, "mask": None, "position_ids": IDS % 6}
    proto = model("EmbedLayerNormalization", placed, domain=MICROSOFT, constants=tables)
    assert "positions" in {weight.name for weight in import_onnx(proto).prunable}
