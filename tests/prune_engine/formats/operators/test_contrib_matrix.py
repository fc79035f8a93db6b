"""onnxruntime's fused matrix products against onnxruntime, or against their parts where it has no kernel."""

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

RANDOM = np.random.default_rng(17)


def values(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def turned(x: np.ndarray, transposed: int, moved: int = 0) -> np.ndarray:
    """What an operand must be for the product to see `x`."""
    x = x.swapaxes(-1, -2) if transposed else x
    return np.ascontiguousarray(np.moveaxis(x, -2, 0) if moved else x)


def check(operator: str, inputs: Inputs, gradient: bool = True, **options: Any) -> None:
    proto = model(operator, inputs, domain=MICROSOFT, **options)
    agree(proto, inputs, by_onnxruntime(proto, inputs))
    if gradient:
        gradient_agrees(proto, inputs)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
def test_transposed_operands(trans_b: int, trans_a: int) -> None:
    options = {"transA": trans_a, "transB": trans_b, "alpha": 0.5}
    a = turned(values(2, 3, 4), trans_a)
    for b in (values(4, 5), values(2, 4, 5)):
        inputs = {"a": a, "b": turned(b, trans_b)}
        check("FusedMatMul", inputs, **options)
        check("TransposeMatMul", inputs, **options)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize(("batch_a", "batch_b"), [(1, 0), (0, 1), (1, 1)])
def test_batch_axes_in_front(batch_a: int, batch_b: int, trans_b: int, trans_a: int) -> None:
    inputs = {
        "a": turned(values(2, 6, 3, 4), trans_a, batch_a),
        "b": turned(values(2, 6, 4, 5), trans_b, batch_b),
    }
    options = {"transA": trans_a, "transB": trans_b, "transBatchA": batch_a, "transBatchB": batch_b}
    check("FusedMatMul", inputs, **options)


def test_a_vector() -> None:
    check("FusedMatMul", {"a": values(4), "b": values(4, 5)})


def test_a_product_with_an_activation() -> None:
    inputs = {"a": values(2, 3, 4), "b": values(4, 5)}
    options = {"activation": "LeakyRelu", "activation_alpha": 0.2, "alpha": 2.0}
    proto = model("FusedMatMulActivation", inputs, domain=MICROSOFT, **options)
    product = 2 * inputs["a"] @ inputs["b"]
    agree(proto, inputs, [np.where(product < 0, 0.2 * product, product)])


GEMM_ACTIVATIONS: dict[str, dict[str, float]] = {
    "Relu": {},
    "Sigmoid": {},
    "Tanh": {},
    "Softplus": {},
    "Softsign": {},
    "LeakyRelu": {"activation_alpha": 0.2},
    "Elu": {"activation_alpha": 0.7},
    "Celu": {"activation_alpha": 1.5},
    "ThresholdedRelu": {"activation_alpha": 0.1},
    "HardSigmoid": {"activation_alpha": 0.3, "activation_beta": 0.4},
    "Selu": {"activation_alpha": 1.5, "activation_gamma": 1.1},
}


@pytest.mark.parametrize("activation", GEMM_ACTIVATIONS)
def test_gemm_with_an_activation(activation: str) -> None:
    inputs = {"a": values(2, 3), "b": values(4, 3), "c": values(4)}
    options = {"transB": 1, "alpha": 0.5, "activation": activation, **GEMM_ACTIVATIONS[activation]}
    check("FusedGemm", inputs, gradient=activation in ("Sigmoid", "Tanh"), **options)


def test_gemm_without_a_bias() -> None:
    check("FusedGemm", {"a": values(2, 3), "b": values(3, 4)}, activation="Tanh")


def test_an_unknown_activation_is_refused_by_name() -> None:
    inputs = {"a": values(2, 3), "b": values(3, 4)}
    with pytest.raises(UnsupportedOperatorError, match="Wiggle"):
        compile_graph(model("FusedGemm", inputs, domain=MICROSOFT, activation="Wiggle"))


def test_gemm_fast_gelu() -> None:
    inputs = {"x": values(2, 3), "w": values(3, 4), "bias": values(4)}
    proto = model("GemmFastGelu", inputs, domain=MICROSOFT)
    sums = torch.from_numpy(inputs["x"] @ inputs["w"] + inputs["bias"])
    agree(proto, inputs, [functional.gelu(sums, approximate="tanh").numpy()])
    gradient_agrees(proto, inputs)


def test_inverse() -> None:
    check("Inverse", {"x": values(2, 3, 3) + 3 * np.eye(3, dtype=np.float32)})


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
def test_distances(metric: str) -> None:
    inputs = {"a": values(4, 3), "b": values(5, 3)}
    check("CDist", inputs, metric=metric)
    with pytest.raises(UnsupportedOperatorError, match="cosine"):
        compile_graph(model("CDist", inputs, domain=MICROSOFT, metric="cosine"))


def test_an_embedding_of_torch() -> None:
    inputs = {"weight": values(5, 3), "ids": np.array([[1, 4], [0, 1]])}
    proto = model("TorchEmbedding", inputs, domain=MICROSOFT, constants=["weight"])
    module = import_onnx(proto)
    assert [weight.kind for weight in module.prunable] == ["Embedding"]
    np.testing.assert_array_equal(
        computed(module, proto, inputs)[0].detach(), inputs["weight"][inputs["ids"]]
    )


@pytest.mark.parametrize(
    ("operator", "options", "shape", "axis"),
    [
        ("FusedMatMul", {}, (3, 4), 1),
        ("FusedMatMul", {"transB": 1}, (4, 3), 0),
        ("TransposeMatMul", {}, (3, 4), 1),
        ("FusedGemm", {}, (3, 4), 1),
        ("FusedGemm", {"transB": 1}, (4, 3), 0),
        ("GemmFastGelu", {}, (3, 4), 1),
    ],
)
def test_the_weight_is_prunable_by_its_columns(
    operator: str, options: dict[str, int], shape: tuple[int, ...], axis: int
) -> None:
    inputs = {"x": values(2, 3), "w": values(*shape)}
    proto = model(operator, inputs, domain=MICROSOFT, constants=["w"], **options)
    module = import_onnx(proto)
    (weight,) = module.prunable
    assert (weight.name, weight.output_axis) == ("w", axis)
    computed(module, proto, inputs)[0].square().sum().backward()
    gradient = module.weights["w"].grad
    assert gradient is not None
    assert bool((gradient != 0).all())
