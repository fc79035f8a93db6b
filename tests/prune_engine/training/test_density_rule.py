"""The rule for `auto`: its two ends, what lies between, and that the user's own values win."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prune_engine.spec import PruneSpec
from prune_engine.training.density_rule import (
    FEWEST_MOVED,
    end_of_gates,
    gate_rule,
    plenty,
    scarcity,
    shift_share,
)

LENET = 410


def test_lenet_at_one_per_cent_is_plenty_and_at_a_seventh_of_it_scarce() -> None:
    assert scarcity(2662, LENET) == pytest.approx(0.0, abs=0.01)
    assert scarcity(399, LENET) == 1.0


@given(kept=st.integers(1, 10**6), more=st.integers(0, 10**6), neurons=st.integers(1, 10**5))
def test_more_weights_are_never_scarcer(kept: int, more: int, neurons: int) -> None:
    assert 0.0 <= scarcity(kept + more, neurons) <= scarcity(kept, neurons) <= 1.0


def test_noise_falls_on_where_plenty_of_weights_are_left() -> None:
    def noise(kept: int) -> float:
        return gate_rule(PruneSpec(density=0.1), kept=kept, neurons=LENET).gate_noise

    assert plenty(2662, LENET) == pytest.approx(0.0, abs=0.01)
    assert plenty(20 * LENET, LENET) == 1.0
    assert noise(399) == 0.5
    assert noise(2662) == pytest.approx(0.2, abs=0.01)
    assert 0.05 < noise(5000) < 0.2
    assert noise(26620) == pytest.approx(0.05)


@pytest.mark.parametrize("method", ["gumbel", "magnitude"])
def test_the_more_is_left_the_slower_given_weights_change(method: str) -> None:
    def rate(kept: int, **fields: str) -> float:
        return gate_rule(
            PruneSpec.model_validate({"density": 0.1, "method": method, **fields}), kept=kept, neurons=LENET
        ).learning_rate

    assert rate(2662) == pytest.approx(rate(20 * LENET), rel=0.01)
    assert rate(40 * LENET) == pytest.approx(rate(20 * LENET) / 2)
    assert rate(10**6) == pytest.approx(rate(20 * LENET) / 10)
    assert rate(10**6, init="random") == rate(20 * LENET)


def test_the_teacher_says_less_of_numbers_than_of_classes() -> None:
    def share(kept: int, numbers: bool) -> float:
        return gate_rule(PruneSpec(density=0.1), kept=kept, neurons=LENET, numbers=numbers).distillation

    assert share(26620, numbers=False) == 0.7
    assert share(26620, numbers=True) == 0.3
    assert share(399, numbers=False) == share(399, numbers=True) == 0.0


def test_what_the_user_gives_is_taken() -> None:
    asked = {
        "learning_rate": 0.5,
        "gate_noise": 0.0,
        "gate_prior": 7.0,
        "fix_mask_at": 0.9,
        "distillation": 0.1,
    }
    rule = gate_rule(PruneSpec(density=0.1, **asked), kept=399, neurons=LENET)  # type: ignore[arg-type]
    assert {name: getattr(rule, name) for name in asked} == asked


@pytest.mark.parametrize("kept", [399, 1000, 2662, 26620])
@pytest.mark.parametrize("method", ["gumbel", "magnitude"])
def test_the_mask_is_fixed_after_the_density_is_reached_and_weights_train_on(kept: int, method: str) -> None:
    rule = gate_rule(PruneSpec(density=0.1, method=method), kept=kept, neurons=LENET)  # type: ignore[arg-type]
    assert 0.0 < rule.anneal_until <= rule.gates_until <= rule.fix_mask_at < 1.0


def test_weights_are_exchanged_where_few_are_left_and_not_where_many_are() -> None:
    few = gate_rule(PruneSpec(density=0.0015), kept=399, neurons=LENET)
    many = gate_rule(PruneSpec(density=0.1), kept=26620, neurons=LENET)
    assert few.gates_until < few.fix_mask_at
    assert few.regrow > 0.0
    assert many.gates_until == many.fix_mask_at
    assert many.regrow == 0.0


def test_a_handful_of_weights_is_not_exchanged() -> None:
    handful = gate_rule(PruneSpec(density=0.1125), kept=18, neurons=22)
    assert handful.gates_until == handful.fix_mask_at
    assert handful.regrow == 0.0


@pytest.mark.parametrize("method", ["gumbel", "magnitude"])
def test_all_images_are_moved_where_many_weights_are_left_and_some_where_few_are(method: str) -> None:
    def share(kept: int) -> float:
        return gate_rule(PruneSpec(density=0.1, method=method), kept=kept, neurons=LENET).shift  # type: ignore[arg-type]

    assert share(26620) == share(1331) == 1.0
    assert share(399) < share(700) < 1.0
    assert share(399) == FEWEST_MOVED


def test_in_a_short_training_images_stay() -> None:
    assert shift_share(5, 1.0) == shift_share(1, 1.0) == 0.0
    assert shift_share(8, 0.5) == pytest.approx(0.3)
    assert shift_share(10, 1.0) == shift_share(30, 1.0) == 1.0


def test_a_long_training_gives_more_of_itself_to_the_exchange() -> None:
    assert end_of_gates(100) == end_of_gates(4_290) == 0.5
    assert 0.35 < end_of_gates(8_000) < 0.5
    assert end_of_gates(12_870) == end_of_gates(10**6) == pytest.approx(0.35)
    spec = PruneSpec(density=0.0015)
    short, long = (gate_rule(spec, kept=399, neurons=LENET, steps=steps) for steps in (4_290, 12_870))
    assert long.gates_until < short.gates_until
    assert long.anneal_until == long.gates_until
    assert long.fix_mask_at == short.fix_mask_at


def test_where_nothing_is_exchanged_the_length_changes_nothing() -> None:
    few = PruneSpec(density=0.1125)
    for kept in (18, 26620):
        short, long = (gate_rule(few, kept=kept, neurons=22, steps=steps) for steps in (100, 10**5))
        assert short == long
