"""Matrix products."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from tests.prune_engine.formats.operators.one_node import agree, holds, model

RANDOM = np.random.default_rng(32)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 4), (4, 5)),
        ((2, 3, 4), (4, 5)),
        ((2, 1, 3, 4), (3, 4, 5)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((4,), (4,)),
    ],
)
def test_products_stack(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    holds("MatMul", {"a": normal(*a), "b": normal(*b)}, opset=13)


def test_products_of_integers() -> None:
    inputs = {"a": RANDOM.integers(-9, 9, (3, 4)), "b": RANDOM.integers(-9, 9, (4, 2))}
    holds("MatMul", inputs, gradient=False, opset=13, types={"y0": TensorProto.INT64})


@pytest.mark.parametrize("c", [None, (), (1,), (5,), (3, 1), (1, 5), (3, 5)])
@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 2.0), (1.0, 0.0)])
def test_general_products(
    alpha: float, beta: float, trans_b: int, trans_a: int, c: tuple[int, ...] | None
) -> None:
    inputs = {
        "a": normal(4, 3) if trans_a else normal(3, 4),
        "b": normal(5, 4) if trans_b else normal(4, 5),
        "c": None if c is None else normal(*c).reshape(c),
    }
    holds("Gemm", inputs, opset=13, alpha=alpha, beta=beta, transA=trans_a, transB=trans_b)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_general_products_of_integers(alpha: float) -> None:
    a, b = RANDOM.integers(-9, 9, (3, 4)).astype(np.int32), RANDOM.integers(-9, 9, (4, 2)).astype(np.int32)
    c = RANDOM.integers(-9, 9, 2).astype(np.int32)
    inputs = {"a": a, "b": b, "c": c}
    wanted = (alpha * (a @ b) + c).astype(np.int32)
    agree(model("Gemm", inputs, opset=13, alpha=alpha, types={"y0": 6}), inputs, [wanted])


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("...ij,...jk->...ik", [(5, 2, 3), (5, 3, 4)]),
        ("b...d,d...->b...", [(2, 3, 4), (4, 3)]),
        ("ii->i", [(3, 3)]),
        ("ii", [(3, 3)]),
        ("...ii->...i", [(2, 3, 3)]),
        ("ij->", [(2, 3)]),
        (" i j , j -> i ", [(2, 3), (3,)]),
        ("i,j->ij", [(2,), (3,)]),
        ("bhqd,bhkd->bhqk", [(2, 2, 3, 4), (2, 2, 5, 4)]),
        ("ba,cB->bcaB", [(2, 3), (4, 5)]),
    ],
)
def test_sums_over_indices(equation: str, shapes: list[tuple[int, ...]]) -> None:
    inputs = {f"x{i}": normal(*shape) for i, shape in enumerate(shapes)}
    holds("Einsum", inputs, opset=13, equation=equation)


@pytest.mark.parametrize("shape", [(3, 3), (2, 2, 4, 4)])
def test_determinants(shape: tuple[int, ...]) -> None:
    holds("Det", {"x": normal(*shape)}, opset=13)
