"""Bounds on layers: held by the shifts, met by the mask, and no layer vanishes."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_engine.gates import (
    Layout,
    budgeted_mask,
    exact_mask,
    expected_density,
    hold_within,
    most_kept,
    single_weights,
)
from prune_engine.gates.layout import Layer
from prune_engine.granularity import SingleWeights


def layers(*units_least_most: tuple[int, int, int]) -> Layout:
    rows = tuple(Layer(f"w{i}", *row, outputs=0) for i, row in enumerate(units_least_most))
    return Layout(SingleWeights(), rows, bounded=True)


bounds = st.integers(1, 5).flatmap(
    lambda units: st.tuples(st.just(units), st.integers(0, units), st.integers(0, units)).map(
        lambda row: (row[0], min(row[1:]), max(row[1:]))
    )
)


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(bounds, min_size=1, max_size=3), seed=st.integers(0, 50), share=st.floats(0, 1))
def test_the_mask_is_the_best_of_all_that_the_bounds_allow(
    rows: list[tuple[int, int, int]], seed: int, share: float
) -> None:
    layout = layers(*rows)
    least, most = sum(row[1] for row in rows), sum(row[2] for row in rows)
    kept = round(least + share * (most - least))
    if kept == 0:
        return
    scores = torch.randn(layout.units, generator=torch.Generator().manual_seed(seed))
    mask = budgeted_mask(scores, kept, layout)
    counts = [int(part.sum()) for part in torch.split(mask, [row[0] for row in rows])]
    assert sum(counts) == kept
    assert all(low <= count <= high for count, (_, low, high) in zip(counts, rows, strict=True))
    assert float(scores[mask].sum()) == pytest.approx(_best(scores, kept, rows), abs=1e-5)


def _best(scores: torch.Tensor, kept: int, rows: list[tuple[int, int, int]]) -> float:
    """By trying every split of `kept` over the layers."""
    parts = [part.sort(descending=True).values for part in torch.split(scores, [row[0] for row in rows])]
    splits = itertools.product(*(range(low, high + 1) for _, low, high in rows))
    return max(
        sum(float(part[:count].sum()) for part, count in zip(parts, split, strict=True))
        for split in splits
        if sum(split) == kept
    )


def test_a_layer_that_would_vanish_keeps_its_best_unit() -> None:
    layout = single_weights([3, 3, 2])
    scores = torch.tensor([5.0, 4.0, 3.0, 0.1, 0.3, 0.2, -2.0, -1.0])
    assert exact_mask(scores, 3).tolist() == [True, True, True, *[False] * 5]
    kept = [True, False, False, False, True, False, False, True]
    assert budgeted_mask(scores, 3, layout).tolist() == kept
    assert torch.equal(budgeted_mask(scores, 7, layout), exact_mask(scores, 7))


def test_a_layer_may_vanish_where_that_is_asked_for() -> None:
    scores = torch.tensor([5.0, 4.0, -2.0, -1.0])
    assert budgeted_mask(scores, 2, layers((2, 1, 2), (2, 0, 2))).tolist() == [True, True, False, False]


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("density", [0.8, 0.3, 0.1])
def test_the_shifts_hold_the_density_and_every_layer_within_its_bounds(density: float, noise: float) -> None:
    layout = layers((1000, 400, 1000), (3000, 1, 100), (6000, 1, 6000))
    torch.manual_seed(0)
    logits = torch.cat([torch.randn(1000) - 3, torch.randn(3000) + 3, torch.randn(6000)])
    for _ in range(3):
        hold_within(logits, layout, density, target=0.1, noise=noise)
    parts = torch.split(logits, [1000, 3000, 6000])
    found = [float(expected_density(part, 0.0, noise)) for part in parts]
    assert float(expected_density(logits, 0.0, noise)) == pytest.approx(density, rel=0.01)
    upper = [
        most / units for most, units in zip(most_kept(layout, density, 0.1), (1000, 3000, 6000), strict=True)
    ]
    assert found[0] >= 0.399
    assert found[1] <= upper[1] + 0.002
    if density == 0.1:
        assert found[0] == pytest.approx(0.4, abs=0.002)
        assert found[1] == pytest.approx(1 / 30, abs=0.002)


@settings(deadline=None)
@given(most=st.lists(st.integers(1, 100), min_size=1, max_size=4), way=st.floats(0, 1))
def test_upper_bounds_on_the_way_leave_room_for_the_density(most: list[int], way: float) -> None:
    layout = layers(*((100, 0, top) for top in most))
    target = sum(most) / layout.units
    density = target + (1 - target) * way
    assert sum(most_kept(layout, density, target)) >= density * layout.units - 1e-6 * layout.units
