"""The budget: exact counts, ties, and the shift that holds the expected density."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_engine.errors import SpecError
from prune_engine.gates import density_shift, exact_mask, expected_density, kept_count

few_values = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=40)


@given(density=st.floats(1e-4, 1.0), prunable=st.integers(1, 10**7))
def test_kept_is_the_rounded_share_or_an_error(density: float, prunable: int) -> None:
    kept = round(density * prunable)
    if kept == 0:
        with pytest.raises(SpecError):
            kept_count(density, prunable)
    else:
        assert kept_count(density, prunable) == kept <= prunable


def test_a_density_that_keeps_nothing_names_the_smallest_possible() -> None:
    with pytest.raises(SpecError, match=r"smallest density .* 0\.00625") as caught:
        kept_count(0.001, 160)
    assert caught.value.param == "density"


@given(scores=few_values, share=st.floats(0.0, 1.0))
def test_the_mask_is_exact_even_with_ties(scores: list[float], share: float) -> None:
    flat = torch.tensor(scores)
    kept = max(1, round(share * len(scores)))
    mask = exact_mask(flat, kept)
    assert int(mask.sum()) == kept
    if kept < len(scores):
        assert flat[mask].min() >= flat[~mask].max()


def test_equal_scores_are_kept_by_the_tie_break_and_then_in_order() -> None:
    scores = torch.tensor([1.0, 1.0, 1.0, 1.0, 3.0])
    sizes = torch.tensor([0.1, 0.9, 0.5, 0.5, 0.0])
    assert exact_mask(scores, 3, sizes).tolist() == [False, True, True, False, True]
    assert exact_mask(scores, 2).tolist() == [True, False, False, False, True]


@given(
    seed=st.integers(0, 1000),
    count=st.integers(1, 300),
    spread=st.floats(0.0, 20.0),
    noise=st.floats(0.05, 2.0),
    density=st.floats(0.001, 0.999),
)
@settings(deadline=None)
def test_the_shift_hits_the_expected_density(
    seed: int, count: int, spread: float, noise: float, density: float
) -> None:
    logits = torch.randn(count, generator=torch.Generator().manual_seed(seed)) * spread
    shift = density_shift(logits, density, noise)
    assert float(expected_density(logits, shift, noise)) == pytest.approx(density, rel=2e-2, abs=1e-4)


@given(seed=st.integers(0, 1000), low=st.floats(0.01, 0.5), more=st.floats(0.01, 0.45))
@settings(deadline=None)
def test_more_density_needs_more_shift(seed: int, low: float, more: float) -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(seed))
    assert density_shift(logits, low + more, 1.0) > density_shift(logits, low, 1.0)


def test_equal_logits_have_the_shift_of_the_closed_form() -> None:
    shift = density_shift(torch.full((1000,), 0.7), 0.2, noise=0.5)
    assert float(shift) == pytest.approx(0.5 * math.log(0.2 / 0.8) - 0.7, abs=1e-4)


def test_without_noise_the_shift_is_a_threshold() -> None:
    logits = torch.arange(100.0)
    shift = density_shift(logits, 0.1, noise=0.0)
    assert float(expected_density(logits, shift, 0.0)) == pytest.approx(0.1)
    assert -90.0 <= float(shift) <= -89.0


def test_a_sample_stands_for_very_many_logits() -> None:
    logits = torch.randn(3_000_000, generator=torch.Generator().manual_seed(0))
    shift = density_shift(logits, 0.05, 1.0)
    assert float(expected_density(logits, shift, 1.0)) == pytest.approx(0.05, rel=0.01)
