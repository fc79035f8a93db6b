"""The rule where only the mask is learned (`train_weights: false`): nothing comes after the gates.

Measured in `benchmarks/lab-book.md`.
"""

from __future__ import annotations

from dataclasses import replace

from prune_engine.spec import PruneSpec
from prune_engine.training.density_rule import Rule

ANNEAL_UNTIL = 0.5


def mask_only(rule: Rule, spec: PruneSpec) -> Rule:
    """`rule` with the gates open to the end, as no weight is there to recover from a mask that is fixed."""
    anneal_until = ANNEAL_UNTIL if spec.anneal_until == "auto" else float(spec.anneal_until)
    return replace(rule, anneal_until=anneal_until, gates_until=1.0, fix_mask_at=1.0, regrow=0.0)
