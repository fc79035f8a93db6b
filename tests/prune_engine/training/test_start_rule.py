"""The rule for fresh weights and for masks alone: what changes, and that what was asked for stays."""

from __future__ import annotations

from typing import Any

from prune_engine.spec import PruneSpec
from prune_engine.training.density_rule import Rule, gate_rule
from prune_engine.training.start_rule import FRESH_ANNEAL_UNTIL, MASK_ANNEAL_UNTIL, adapted


def rules(**fields: Any) -> tuple[Rule, Rule]:
    spec = PruneSpec(density=0.05, **fields)
    rule = gate_rule(spec, kept=13_310, neurons=410)
    return rule, adapted(rule, spec)


def test_given_weights_that_are_trained_change_nothing() -> None:
    before, after = rules()
    assert after == before


def test_a_mask_alone_is_learned_to_the_end() -> None:
    _, rule = rules(train_weights=False)
    assert (rule.anneal_until, rule.gates_until, rule.fix_mask_at) == (MASK_ANNEAL_UNTIL, 1.0, 1.0)
    assert rule.regrow == 0.0
    assert rules(train_weights=False, anneal_until=0.8)[1].anneal_until == 0.8


def test_fresh_weights_have_no_teacher_and_their_sizes_say_nothing() -> None:
    before, rule = rules(init="random")
    assert before.distillation > 0
    assert (rule.distillation, rule.gate_prior) == (0.0, 0.0)
    assert rule.anneal_until == FRESH_ANNEAL_UNTIL


def test_what_was_asked_for_stays() -> None:
    asked = {"distillation": 0.3, "gate_prior": 1.5, "anneal_until": 0.4}
    _, rule = rules(init="random", **asked)
    assert (rule.distillation, rule.gate_prior, rule.anneal_until) == (0.3, 1.5, 0.4)


def test_a_mask_of_fresh_weights_goes_by_their_sizes() -> None:
    """Nothing else tells them apart: without the prior 0.93 become 0.77 (lab book)."""
    before, rule = rules(init="random", train_weights=False)
    assert rule.gate_prior == before.gate_prior > 0
