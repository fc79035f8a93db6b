"""Bounds on the density of single layers, held while the gates learn and exactly at the end."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from prune_engine.gates.budget import BISECTIONS, density_shift, exact_mask, expected_density
from prune_engine.gates.layout import Layout


def budgeted_mask(
    scores: Tensor,
    kept: int,
    layout: Layout,
    tie_break: Callable[[], Tensor] | None = None,
    most: list[int] | None = None,
) -> Tensor:
    """Bool mask of exactly `kept` units, the highest scores that the layers' bounds allow.

    The best sum of scores under these bounds: every layer's own best `least` units, then the best of all
    that are not beyond a layer's `most`. Without bounds it is `exact_mask`, unless that leaves a layer empty
    which must not be: the best unit of such a layer is then kept.

    Args:
        scores: of the units, finite.
        kept: as `Layout.kept` allows, in units.
        layout: the layers and their bounds.
        tie_break: as for `exact_mask`.
        most: upper bounds that take the place of the layout's.
    """
    if not layout.bounded:
        mask = exact_mask(scores, kept, tie_break)
        sizes = [layer.units for layer in layout.layers]
        if len(sizes) == 1 or not _vanished(mask, layout, sizes):
            return mask
    forced = scores.clone()
    start = 0
    for i, layer in enumerate(layout.layers):
        part = slice(start, start + layer.units)
        upper = layer.most if most is None else most[i]
        own = None if tie_break is None else tie_break()[part]
        if upper < layer.units:
            out = ~exact_mask(scores[part], upper, own) if upper else slice(None)
            forced[part][out] = -math.inf
        if layer.least:
            forced[part][exact_mask(scores[part], layer.least, own)] = math.inf
        start += layer.units
    return exact_mask(forced, kept, tie_break)


def _vanished(mask: Tensor, layout: Layout, sizes: list[int]) -> bool:
    """Whether a layer that must keep a unit has none."""
    alive = torch.stack([part.any() for part in torch.split(mask, sizes)]).tolist()
    return not all(one or not layer.least for one, layer in zip(alive, layout.layers, strict=True))


def most_kept(layout: Layout, density: float, target: float) -> list[int]:
    """The most units of each layer while the whole has fallen to `density` on its way to `target`.

    The bounds come down from 1 in a straight line over the density, so that they never leave too little.
    """
    way = _way(density, target)
    return [math.ceil(layer.most + (layer.units - layer.most) * way) for layer in layout.layers]


def hold_within(logits: Tensor, layout: Layout, density: float, target: float, noise: float) -> None:
    """Shift the logits, in place, so that the expected density is `density` and no layer leaves its bounds.

    One shift for all layers is looked for by bisection; a layer that it would bring beyond a bound gets one
    of its own that brings it there, and the others make up for it. The upper bounds come down as those of
    `most_kept` do. On a device nothing is waited for.

    Args:
        logits: of the units, flat.
        layout: the layers and their bounds.
        density: expected density to hold now.
        target: expected density at the end.
        noise: scale of the logistic noise.
    """
    units = [layer.units for layer in layout.layers]
    parts = torch.split(logits, units)
    way = _way(density, target)
    upper = [(layer.most + (layer.units - layer.most) * way) / layer.units for layer in layout.layers]
    lower = [layer.least / layer.units for layer in layout.layers]
    margin = 30.0 * noise + 1.0
    low, high = -logits.max() - margin, -logits.min() + margin
    for _ in range(BISECTIONS):
        shift = (low + high) / 2
        expected = [
            expected_density(part, shift, noise).clamp(a, b) * n
            for part, a, b, n in zip(parts, lower, upper, units, strict=True)
        ]
        too_dense = torch.stack(expected).sum() > density * layout.units
        high = torch.where(too_dense, shift, high)
        low = torch.where(too_dense, low, shift)
    shift = (low + high) / 2
    for part, a, b in zip(parts, lower, upper, strict=True):
        found = expected_density(part, shift, noise)
        at_least = density_shift(part, a, noise) if a > 0.0 else shift
        at_most = density_shift(part, b, noise) if b < 1.0 else shift
        own = torch.where(found < a, at_least, shift)
        part.add_(torch.where(found > b, at_most, own))


def _way(density: float, target: float) -> float:
    """How much of the way from 1 to `target` is still ahead, in (0, 1)."""
    return min(max((density - target) / max(1.0 - target, 1e-9), 0.0), 1.0)
