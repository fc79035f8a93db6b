"""Schedules: where they start, where they end, and that they never turn round."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prune_engine.methods.schedules import cubic_density, log_linear_density, one_cycle, pause

targets = st.floats(1e-4, 1.0)
shares = st.floats(-0.5, 1.5)


@given(target=targets, one=shares, other=shares)
def test_densities_fall_from_one_to_the_target(target: float, one: float, other: float) -> None:
    for schedule in (log_linear_density, cubic_density):
        assert schedule(0.0, target) == pytest.approx(1.0)
        assert schedule(1.0, target) == pytest.approx(target)
        early, late = sorted((one, other))
        assert schedule(early, target) >= schedule(late, target) - 1e-12


def test_the_cubic_schedule_is_the_papers() -> None:
    assert cubic_density(0.5, 0.1) == pytest.approx(0.1 + 0.9 / 8)


def test_one_cycle_rises_to_the_peak_and_falls_to_nothing() -> None:
    assert one_cycle(0.0, 1.0) == pytest.approx(0.04)
    assert one_cycle(0.3, 1.0) == pytest.approx(1.0)
    assert one_cycle(1.0, 1.0) < 1e-3
    values = [one_cycle(step / 100, 0.5) for step in range(101)]
    assert max(values) == pytest.approx(0.5)
    assert values[:31] == sorted(values[:31])
    assert values[30:] == sorted(values[30:], reverse=True)


@given(
    start=st.floats(0.0, 0.9), length=st.floats(0.0, 0.09), one=st.floats(0.0, 1.0), other=st.floats(0.0, 1.0)
)
def test_a_paused_schedule_never_turns_round_and_ends_at_one(
    start: float, length: float, one: float, other: float
) -> None:
    until = start + length
    early, late = sorted((one, other))
    assert pause(early, start, until) <= pause(late, start, until) + 1e-12
    assert pause(1.0, start, until) == pytest.approx(1.0)
    assert pause(until, start, until) == pytest.approx(start)
    assert pause(one, start, start) == pytest.approx(one)
