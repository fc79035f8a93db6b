"""How the rule changes where a training does not start from given weights, or does not change them.

Measured in `benchmarks/lab-book.md`.
"""

from __future__ import annotations

from dataclasses import replace

from prune_engine.spec import PruneSpec
from prune_engine.training.density_rule import Rule

MASK_ANNEAL_UNTIL = 0.5
FRESH_ANNEAL_UNTIL = 0.6


def adapted(rule: Rule, spec: PruneSpec) -> Rule:
    """`rule` as it is for a spec with `init` or `train_weights` of its own; what was asked for stays."""
    if spec.init == "random":
        rule = _from_fresh(rule, spec)
    return rule if spec.train_weights else _mask_only(rule, spec)


def _from_fresh(rule: Rule, spec: PruneSpec) -> Rule:
    """There is no teacher; and the size that a weight was drawn with says little of what it will be."""
    if spec.distillation == "auto":
        rule = replace(rule, distillation=0.0)
    if spec.method == "magnitude" or not spec.train_weights:
        return rule
    prior = 0.0 if spec.gate_prior == "auto" else float(spec.gate_prior)
    until = max(FRESH_ANNEAL_UNTIL, rule.anneal_until)
    if spec.anneal_until != "auto" or spec.fix_mask_at != "auto":
        until = rule.anneal_until
    return replace(rule, gate_prior=prior, anneal_until=until)


def _mask_only(rule: Rule, spec: PruneSpec) -> Rule:
    """The gates stay open to the end, as no weight is there to recover from a mask that is fixed."""
    until = MASK_ANNEAL_UNTIL if spec.anneal_until == "auto" else float(spec.anneal_until)
    return replace(rule, anneal_until=until, gates_until=1.0, fix_mask_at=1.0, regrow=0.0)
