"""Progress by steps and by time, in one leg and in several."""

from __future__ import annotations

import pytest

from prune_engine.training.clock import Clock


def test_one_leg_goes_from_start_to_end() -> None:
    clock = Clock(4, None)
    seen = []
    while clock.progress < 1.0:
        seen.append((clock.progress, clock.overall))
        clock.tick()
    assert seen == [(0.0, 0.0), (0.25, 0.25), (0.5, 0.5), (0.75, 0.75)]
    assert clock.overall == 1.0


def test_legs_take_the_schedules_from_where_to_where() -> None:
    clock = Clock(10, None)
    clock.leg(4, 0.0, 0.5)
    for _ in range(4):
        clock.tick()
    assert clock.progress == 0.5
    clock.leg(6, 0.2, 1.0)
    clock.tick()
    assert clock.progress == pytest.approx(0.2 + 0.8 / 6)
    assert clock.overall == pytest.approx(0.5)


def test_a_leg_that_is_cut_short_is_not_waited_for() -> None:
    clock = Clock(10, None)
    clock.leg(4)
    clock.tick()
    clock.close()
    assert clock.overall == pytest.approx(0.4)
    assert clock.step == 1


def test_time_counts_where_it_runs_out_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock = Clock(1000, 1.0)
    now[0] += 30.0
    assert clock.progress == pytest.approx(0.5)
    assert clock.overall == pytest.approx(0.5)
    clock.close()
    now[0] += 60.0
    assert clock.overall == 1.0


def test_legs_share_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock = Clock(100, 1.0)
    clock.leg(50)
    now[0] = 30.0
    assert clock.progress == pytest.approx(1.0)
    clock.close()
    clock.leg(25)
    now[0] = 37.5
    assert clock.progress == pytest.approx(0.5)


def test_a_clock_goes_on_from_its_state() -> None:
    clock = Clock(10, None)
    clock.leg(4, 0.1, 0.9)
    clock.tick()
    kept = clock.state()
    for _ in range(3):
        clock.tick()
    clock.leg(2)
    clock.load(kept)
    assert clock.step == 1
    assert clock.progress == pytest.approx(0.1 + 0.8 / 4)
