"""The density budget: how many weights are kept, and the shift of all logits that does it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from prune_engine.errors import SpecError

BISECTIONS = 24
LARGEST_SAMPLE = 1 << 20


def kept_count(density: float, prunable: int) -> int:
    """Number of weights that `density` keeps of `prunable`: `round(density * prunable)`.

    Raises:
        SpecError: that would be none.
    """
    kept = round(density * prunable)
    if kept < 1:
        raise SpecError(
            f"density: {density:g} of {prunable} prunable weights keeps none; "
            f"the smallest density that this model can have is {1 / prunable:.3g}",
            param="density",
        )
    return kept


def expected_density(logits: Tensor, shift: Tensor | float, noise: float) -> Tensor:
    """Mean keep probability of gates `[logit + shift + noise * L > 0]`, L standard logistic; a scalar tensor.

    Without noise it is the share of positive logits.
    """
    if noise == 0.0:
        return (logits > -shift).to(logits.dtype).mean()
    shifted = logits + shift
    return (shifted if noise == 1.0 else shifted.div_(noise)).sigmoid_().mean()


def sampled(logits: Tensor) -> Tensor:
    """Flat logits that stand for all: beyond 2^20 a strided sample."""
    return logits[:: max(-(-logits.numel() // LARGEST_SAMPLE), 1)]


def density_shift(logits: Tensor, density: float, noise: float) -> Tensor:
    """Find by bisection the one shift of all logits whose expected density is `density`; a scalar tensor.

    Runs on the logits' device without a host synchronisation. Beyond 2^20 logits a strided sample stands for
    all.

    Args:
        logits: flat, any order.
        density: in (0, 1).
        noise: scale of the logistic noise, >= 0.
    """
    logits = sampled(logits)
    # At these ends the expected density is beyond 1e-13 of 0 and of 1.
    margin = 30.0 * noise + 1.0
    low, high = -logits.max() - margin, -logits.min() + margin
    # In units of the noise an iteration needs one pass less over all logits.
    unit = 1.0 if noise else 0.0
    if noise:
        logits, low, high = logits / noise, low / noise, high / noise
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        too_dense = expected_density(logits, middle, unit) > density
        high = torch.where(too_dense, middle, high)
        low = torch.where(too_dense, low, middle)
    return (low + high) / 2 * (noise or 1.0)


def exact_mask(scores: Tensor, kept: int, tie_break: Tensor | Callable[[], Tensor] | None = None) -> Tensor:
    """Bool mask of exactly `kept` entries: the highest scores, among equal ones the highest `tie_break`.

    Entries equal in both are taken in their order, so that the mask is the same on every device.

    Args:
        scores: flat, finite.
        kept: 1..scores.numel().
        tie_break: flat, as long as `scores`; or what gives it, called only where there are ties to break.
    """
    count = scores.numel()
    if kept >= count:
        return torch.ones(count, dtype=torch.bool, device=scores.device)
    threshold = _highest(scores, kept)
    mask = scores > threshold
    missing = kept - int(mask.sum())
    ties = torch.nonzero(scores == threshold).squeeze(1)
    if tie_break is not None and ties.numel() > missing:
        breaks = tie_break if isinstance(tie_break, Tensor) else tie_break()
        ties = ties[torch.sort(breaks[ties], descending=True, stable=True).indices]
    mask[ties[:missing]] = True
    return mask


def _highest(scores: Tensor, rank: int) -> Tensor:
    """The `rank`-th highest score, a scalar tensor."""
    if scores.device.type != "cpu":
        return torch.topk(scores, rank, sorted=True).values[-1]
    # A third of the memory of `topk`, which sorts pairs of value and place.
    values = scores.detach().clone().numpy()
    values.partition(len(values) - rank)
    return scores.new_tensor(values[len(values) - rank])
