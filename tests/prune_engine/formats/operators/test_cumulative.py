"""Running sums and products."""

from __future__ import annotations

import numpy as np
import pytest

from tests.prune_engine.formats.operators.one_node import agree, by_reference, gradient_agrees, holds, model

RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("axis", [0, -1])
def test_sums(axis: int, exclusive: int, reverse: int) -> None:
    inputs = {"x": RANDOM.standard_normal((3, 4)).astype(np.float32), "axis": np.array(axis)}
    holds("CumSum", inputs, opset=14, constants=("axis",), exclusive=exclusive, reverse=reverse)


def test_an_infinite_element_is_left_out_where_it_is_excluded() -> None:
    inputs = {"x": np.array([1.0, np.inf, 2.0], np.float32), "axis": np.array(0)}
    holds("CumSum", inputs, gradient=False, opset=14, exclusive=1)


@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("exclusive", [0, 1])
def test_products(exclusive: int, reverse: int) -> None:
    inputs = {"x": np.array([[1.5, 0.0, 2.0], [3.0, -1.0, 0.5]], np.float32), "axis": np.array(1)}
    proto = model("CumProd", inputs, opset=26, constants=("axis",), exclusive=exclusive, reverse=reverse)
    agree(proto, inputs, by_reference(proto, inputs))
    gradient_agrees(proto, inputs)
