"""Which prunable weights get gates in this run and which are left out: patterns, and the granularity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

from prune_engine.errors import SpecError
from prune_engine.gates.fitting import fits
from prune_engine.report import LeftOut
from prune_engine.spec import PruneSpec
from prune_engine.training.result import PrunableInfo
from prune_engine.typography import shorten

_SHOWN = 40


Weight = TypeVar("Weight", bound=PrunableInfo)


@dataclass(frozen=True)
class Chosen(Generic[Weight]):
    """The prunable weights of a run.

    Attributes:
        gated: those that get gates, in the module's order; density is a share of their elements.
        left_out: the others: trained like biases, never pruned.
    """

    gated: tuple[Weight, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def prunable(self) -> int:
        """Elements of all gated weights together."""
        return sum(math.prod(weight.shape) for weight in self.gated)


def choose(weights: Sequence[Weight], spec: PruneSpec) -> Chosen[Weight]:
    """Decide which of a module's prunable weights are gated.

    Args:
        weights: all prunable weights of the module.
        spec: `include` and `exclude` matter.

    Raises:
        SpecError: a pattern matches no weight, or no weight is left; lists the names there are.
    """
    for field, patterns in (("include", spec.include), ("exclude", spec.exclude)):
        require_matches(field, patterns, weights)
    reasons = {weight.name: _reason(weight, spec) for weight in weights}
    gated = tuple(weight for weight in weights if reasons[weight.name] is None)
    left_out = tuple(
        LeftOut(name=weight.name, kind=weight.kind, shape=weight.shape, reason=reason)
        for weight in weights
        if (reason := reasons[weight.name]) is not None
    )
    if weights and not gated:
        why = "; ".join(f"'{one.name}': {one.reason}" for one in left_out[:_SHOWN])
        asked = "exclude" if spec.exclude else "include" if spec.include else "granularity"
        raise SpecError(f"{asked}: no weight is left to prune: {why}", param=asked)
    return Chosen(gated, left_out)


def matches(pattern: str, weight: PrunableInfo) -> bool:
    """Whether a glob pattern fits the weight's name, or the name of a node that uses it.

    `*` stands for any characters, dots and slashes included. A pattern that is a name as it stands fits that
    name, whatever is in it.
    """
    return any(pattern == name or fnmatchcase(name, pattern) for name in (weight.name, *weight.nodes))


def require_matches(field: str, patterns: Sequence[str], weights: Sequence[PrunableInfo]) -> None:
    """Refuse patterns that fit nothing; `field` is the spec's field that they came in.

    Raises:
        SpecError: names the patterns, and the weights that there are.
    """
    idle = [pattern for pattern in patterns if not any(matches(pattern, weight) for weight in weights)]
    if idle:
        said = ", ".join(repr(pattern[:100]) for pattern in idle[:_SHOWN])
        verb = "matches" if len(idle) == 1 else "match"
        raise SpecError(f"{field}: {said} {verb} no prunable weight; there are {named(weights)}", param=field)


def named(weights: Sequence[PrunableInfo]) -> str:
    """Names to write patterns for, each weight's with those of the nodes that use it."""
    shown = [
        f"'{shorten(weight.name, 100)}'" + (f" (node {', '.join(weight.nodes[:2])})" if weight.nodes else "")
        for weight in weights[:_SHOWN]
    ]
    more = f" and {len(weights) - _SHOWN} more" if len(weights) > _SHOWN else ""
    return ", ".join(shown) + more


def _reason(weight: PrunableInfo, spec: PruneSpec) -> str | None:
    """Why a weight is left out; None where it is gated."""
    excluding = next((pattern for pattern in spec.exclude if matches(pattern, weight)), None)
    if excluding is not None:
        return f"exclude has {excluding!r}"
    if spec.include and not any(matches(pattern, weight) for pattern in spec.include):
        return "no pattern of include fits it"
    reason = fits(weight, spec.units)
    return None if reason is None else f"granularity {spec.granularity}: {reason}"
