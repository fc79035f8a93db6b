"""Newton's shift is the bisection's, where it says that it found one."""

from __future__ import annotations

import pytest
import torch

from prune_engine.gates import density_shift, expected_density
from prune_engine.gates.following import followed_shift


@pytest.mark.parametrize("noise", [0.2, 1.0])
@pytest.mark.parametrize("density", [0.9, 0.05, 0.0015])
def test_a_small_shift_is_found(density: float, noise: float) -> None:
    logits = 2.0 * torch.randn(50_000, generator=torch.Generator().manual_seed(0))
    logits += density_shift(logits, density, noise)
    target = 0.97 * density
    shift = followed_shift(logits, target, noise)
    assert shift is not None
    assert float(expected_density(logits, shift, noise)) == pytest.approx(target, rel=2e-3)


def test_a_shift_that_is_far_is_left_to_others() -> None:
    logits = torch.full((1000,), 8.0)
    assert followed_shift(logits, 0.001, 0.2) is None
