"""The gated weights of a run laid out in its granularity, with the bounds that `layer_density` gives them."""

from __future__ import annotations

from collections.abc import Sequence

from prune_engine.errors import SpecError
from prune_engine.gates import Layout, lay_out
from prune_engine.gates.layout import Bounds
from prune_engine.spec import PruneSpec
from prune_engine.training.chosen import matches, require_matches
from prune_engine.training.result import PrunableInfo


def layout_of(gated: Sequence[PrunableInfo], spec: PruneSpec) -> Layout:
    """How the gated weights are cut into units, and how many of each layer's may be kept.

    Args:
        gated: as `choose` gives them: all fit the granularity.
        spec: `granularity` and `layer_density` matter.

    Raises:
        SpecError: a pattern of `layer_density` matches none of them, or two contradict each other.
    """
    require_matches("layer_density", tuple(spec.layer_density), gated)
    bounds = [_bounds(weight, spec) for weight in gated]
    return lay_out(gated, [weight.name for weight in gated], spec.units, bounds)


def _bounds(weight: PrunableInfo, spec: PruneSpec) -> Bounds:
    """What all patterns that match a weight allow together."""
    found = [bounds for pattern, bounds in spec.layer_density.items() if matches(pattern, weight)]
    leasts = [least for least, _ in found if least is not None]
    mosts = [most for _, most in found if most is not None]
    least, most = max(leasts, default=None), min(mosts, default=None)
    if least is not None and most is not None and least > most:
        raise SpecError(
            f"layer_density: '{weight.name}' is asked for at least {least:g} and at most {most:g} by "
            "different patterns; make them agree",
            param="layer_density",
        )
    return least, most
