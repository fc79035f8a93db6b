"""A problem whose best mask is known: a quadratic bowl `sum(curvature * (w - target)^2) / 2`.

Under a budget of k weights the best mask keeps the k largest `curvature * target^2`, and kept weights reach
their targets; so the best loss is known in closed form.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from prune_engine.gates import FlatParameters
from prune_engine.methods import Method, MethodSettings

CPU = torch.device("cpu")


class Bowl(nn.Module):
    """Weights start at their targets, as those of a trained net do."""

    def __init__(self, curvature: Tensor, target: Tensor) -> None:
        super().__init__()
        self.curvature, self.target = curvature, target
        self.weight = nn.Parameter(target.clone())

    def forward(self) -> Tensor:
        return (self.curvature * (self.weight - self.target).square()).sum() / 2


def settings(kept: int, prunable: int, **changes: float) -> MethodSettings:
    values: dict[str, float] = {
        "gate_learning_rate": 0.1,
        "gate_prior": 0.0,
        "gate_noise": 1.0,
        "gate_temperature": 1.0,
        "gate_epsilon": 1e-8,
        "anneal_until": 0.6,
        "fix_mask_at": 1.0,
        **changes,
    }
    return MethodSettings(density=kept / prunable, kept=kept, seed=0, **values)  # type: ignore[arg-type]


def run(
    method: Callable[[FlatParameters, MethodSettings], Method],
    bowl: Bowl,
    chosen: MethodSettings,
    steps: int = 600,
    learning_rate: float = 0.01,
) -> tuple[Method, FlatParameters]:
    """Plain gradient descent on the weights with `method` around it."""
    flat = FlatParameters({"weight": bowl.weight}, ["weight"], CPU)
    pruner = method(flat, chosen)
    for step in range(steps):
        pruner.before_forward(step / steps)
        bowl().backward()
        flat.collect()
        pruner.after_backward(step / steps)
        flat.values.sub_(learning_rate * flat.gradient)
    return pruner, flat
