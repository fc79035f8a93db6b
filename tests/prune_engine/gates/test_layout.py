"""How many units are kept, and which densities are refused with the ones that are possible."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_engine.errors import SpecError
from prune_engine.gates.layout import Bounds
from tests.prune_engine.gates.weights import Weight, conv, laid_out, linear, matmul


@settings(deadline=None)
@given(density=st.floats(0.001, 1.0), granularity=st.sampled_from(["weight", "4x1", "2x2", "2:4"]))
def test_whole_units_are_kept_or_the_smallest_density_that_works_is_named(
    density: float, granularity: str
) -> None:
    layout = laid_out(granularity, linear(12, 8), matmul(8, 12))
    try:
        kept = layout.kept(density)
    except SpecError as error:
        assert density < layout.smallest_density + 0.5 / layout.units
        named = re.search(r"smallest density that this model can have is ([0-9.e-]+)", error.message)
        assert named is not None
        assert layout.kept(float(named[1])) == layout.fewest * layout.size
        return
    if granularity == "2:4":
        assert kept == layout.prunable // 2
    else:
        assert kept == round(density * layout.units) * layout.size
        assert kept >= layout.fewest * layout.size


def test_every_output_of_the_last_layer_needs_a_unit() -> None:
    weights = linear(300, 784), linear(100, 300), linear(10, 100)
    assert laid_out("weight", *weights).fewest == 10
    assert laid_out("2x1", *weights).fewest == 5
    with pytest.raises(SpecError, match=r"keeps 9 weights, .* 'w2', need 10; the smallest .* 3\.76e-05"):
        laid_out("weight", *weights).kept(9 / 266_200)


def test_every_layer_needs_a_unit() -> None:
    deep = [linear(2, 2) for _ in range(20)]
    with pytest.raises(SpecError, match=r"each layer must keep one: 20 in 20 layers"):
        laid_out("weight", *deep).kept(0.1)


def test_an_embedding_reaches_its_features() -> None:
    table = Weight("Embedding", (1000, 16), 0, 1)
    assert laid_out("weight", table).fewest == 16
    assert laid_out("1x4", table).fewest == 4


def test_bounds_are_counted_in_units() -> None:
    bounds: list[Bounds] = [(0.25, None), (None, 0.5), (0.0, 0.1)]
    layout = laid_out("4x1", linear(8, 10), linear(8, 10), linear(4, 5), bounds=bounds)
    assert [(layer.least, layer.most) for layer in layout.layers] == [(5, 20), (1, 10), (0, 0)]
    assert layout.bounded


def test_a_density_beyond_the_bounds_names_the_range() -> None:
    layout = laid_out("weight", linear(10, 10), linear(10, 30), bounds=[(0.5, None), (None, 0.2)])
    with pytest.raises(
        SpecError, match=r"keep 160 weights at most, .* density can be 0\.128 to 0\.4"
    ) as caught:
        layout.kept(0.5)
    assert caught.value.param == "layer_density"
    with pytest.raises(SpecError, match=r"layer_density ask for 51 in 2 layers; the smallest .* 0\.128"):
        layout.kept(0.1)
    assert layout.kept(0.4) == 160
    assert layout.kept(0.128) == 51


def test_only_single_weights_without_bounds_are_plain() -> None:
    assert laid_out("weight", conv(4, 4)).plain
    assert not laid_out("1x1", conv(4, 4)).plain
    assert not laid_out("weight", conv(4, 4), bounds=[(0.1, None)]).plain
