"""Bounds by pattern become bounds of layers."""

from __future__ import annotations

import pytest

from prune_engine.errors import SpecError
from prune_engine.spec import PruneSpec
from prune_engine.training.layers import layout_of
from tests.prune_engine.training.tasks import Weight

WEIGHTS = [
    Weight("conv1.weight", (8, 4, 5, 5), "Conv", nodes=("/conv1/Conv",)),
    Weight("fc1.weight", (120, 400), nodes=("/fc1/Gemm",)),
]


def bounds(**layer_density: tuple[float | None, float | None]) -> list[tuple[float | None, float | None]]:
    patterns = {name.replace("_", "*"): value for name, value in layer_density.items()}
    layout = layout_of(WEIGHTS, PruneSpec(density=0.1, layer_density=patterns))
    return [layer.bounds for layer in layout.layers]


def test_patterns_fit_weights_and_nodes_and_what_they_allow_together_counts() -> None:
    assert bounds() == [(None, None)] * 2
    assert bounds(conv_=(0.2, None)) == [(0.2, None), (None, None)]
    assert bounds(_Gemm=(None, 0.5)) == [(None, None), (None, 0.5)]
    assert bounds(_=(0.01, 0.5), conv_=(0.3, 0.9)) == [(0.3, 0.5), (0.01, 0.5)]


def test_what_contradicts_itself_or_fits_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match=r"'conv1\.weight' is asked for at least 0\.6 and at most 0\.5"):
        bounds(_=(None, 0.5), conv_=(0.6, None))
    with pytest.raises(SpecError, match=r"there are 'conv1\.weight'"):
        bounds(lstm_=(None, 0.5))
