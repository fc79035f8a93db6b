"""Random generators: their shape, type and distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prune_engine.formats.importer import compile_graph
from tests.prune_engine.formats.operators.one_node import model

X = np.zeros((100, 200), np.float32)


@pytest.mark.parametrize(
    ("operator", "options", "mean", "spread"),
    [
        ("RandomNormalLike", {"mean": 2.0, "scale": 3.0}, 2.0, 3.0),
        ("RandomUniformLike", {"low": -1.0, "high": 3.0}, 1.0, 4 / 12**0.5),
    ],
)
def test_like_another_tensor(operator: str, options: dict[str, float], mean: float, spread: float) -> None:
    y = compile_graph(model(operator, {"x": X}, opset=17, **options))(torch.from_numpy(X))[0]
    assert y.shape == X.shape
    assert float(y.mean()) == pytest.approx(mean, abs=0.1)
    assert float(y.std()) == pytest.approx(spread, rel=0.05)


def test_of_a_shape() -> None:
    proto = model("RandomUniform", {}, opset=17, shape=[2, 3], low=5.0, high=6.0)
    module = compile_graph(proto)
    first, second = module()[0], module()[0]
    assert first.shape == (2, 3)
    assert bool(((first >= 5) & (first < 6)).all())
    assert not torch.equal(first, second)


def test_coins() -> None:
    x = torch.full((1000,), 0.8)
    y = compile_graph(model("Bernoulli", {"x": x.numpy()}, opset=17, types={"y0": 9}, dtype=9))(x)[0]
    assert y.dtype == torch.bool
    assert 720 < int(y.sum()) < 880


def test_classes_from_their_log_probabilities() -> None:
    scores = torch.tensor([[0.0, 2.0, -20.0]])
    proto = model("Multinomial", {"x": scores.numpy()}, opset=17, types={"y0": 7}, sample_size=1000, dtype=7)
    drawn = compile_graph(proto)(scores)[0]
    assert drawn.shape == (1, 1000)
    assert int((drawn == 2).sum()) == 0
    assert 820 < int((drawn == 1).sum()) < 930  # e^2 / (1 + e^2) = 0.88
