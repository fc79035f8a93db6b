"""Gates: what a sample keeps, and the straight-through gradients by their formulas."""

from __future__ import annotations

import pytest
import torch

from prune_engine.gates import LogisticGates, expected_density
from tests.prune_engine.devices import DEVICES


@pytest.mark.parametrize("device", DEVICES)
def test_a_sample_keeps_as_many_as_the_density_says(device: torch.device) -> None:
    gates = LogisticGates(torch.randn(100_000, device=device), noise=1.0, temperature=1.0, seed=0)
    gates.hold(0.1)
    out = torch.empty(100_000, device=device)
    gates.apply(torch.ones(100_000, device=device), out=out)
    assert float(out.mean()) == pytest.approx(0.1, rel=0.05)
    assert torch.equal(out.bool(), gates.open)


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_follow_the_straight_through_formulas(device: torch.device) -> None:
    logits = torch.tensor([-2.0, 0.3, 1.5], device=device)
    weights = torch.tensor([0.5, -1.0, 2.0], device=device)
    gradient = torch.tensor([1.0, 2.0, -3.0], device=device)
    gates = LogisticGates(logits, noise=0.0, temperature=0.5, seed=0)
    out = torch.empty(3, device=device)
    gates.apply(weights, out=out)
    assert out.tolist() == [0.0, -1.0, 2.0]

    soft = (logits / 0.5).requires_grad_()
    straight_through = torch.sigmoid(soft)
    straight_through.backward(gradient * weights)
    assert soft.grad is not None
    expected = soft.grad / 0.5

    gates.backward(weights, gradient)
    torch.testing.assert_close(gates.gradient, expected)
    assert gradient.tolist() == [0.0, 2.0, -3.0]


def test_the_slope_is_taken_at_the_noisy_logit() -> None:
    noisy = LogisticGates(torch.zeros(1000), noise=1.0, temperature=1.0, seed=0)
    weights, gradient = torch.ones(1000), torch.ones(1000)
    noisy.apply(weights, out=torch.empty(1000))
    noisy.backward(weights, gradient)
    assert noisy.gradient.max() <= 0.25
    assert noisy.gradient.std() > 0.01


def test_a_narrow_search_follows_small_changes() -> None:
    gates = LogisticGates(torch.randn(10_000), noise=0.5, temperature=1.0, seed=0)
    gates.hold(0.05)
    gates.logits.add_(torch.randn(10_000) * 0.1)
    gates.hold(0.048)
    assert float(expected_density(gates.logits, 0.0, 0.5)) == pytest.approx(0.048, rel=0.02)


@pytest.mark.parametrize("density", [0.002, 0.3])
def test_a_large_change_is_followed_too(density: float) -> None:
    gates = LogisticGates(4.0 * torch.randn(10_000), noise=0.2, temperature=1.0, seed=0)
    gates.hold(0.995)
    gates.hold(density)
    assert float(expected_density(gates.logits, 0.0, 0.2)) == pytest.approx(density, rel=0.02)
