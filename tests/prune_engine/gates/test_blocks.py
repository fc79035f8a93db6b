"""Gates on blocks: the gradient of a block's gate is the sum over its weights."""

from __future__ import annotations

import pytest
import torch

from prune_engine.gates import BlockGates, LogisticGates, Units
from tests.prune_engine.devices import DEVICES
from tests.prune_engine.gates.weights import conv, laid_out, linear, matmul

LAYERS = (linear(4, 6), matmul(4, 6), conv(4, 2))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("granularity", ["4x1", "1x2", "2x2"])
def test_gradients_are_those_of_autograd_through_the_same_gates(
    granularity: str, device: torch.device
) -> None:
    layout = laid_out(granularity, *LAYERS)
    units = Units(layout, device)
    torch.manual_seed(0)
    logits = torch.randn(layout.units, device=device)
    weights, gradient = torch.randn(2, layout.prunable, device=device)
    gates = BlockGates(logits.clone(), units, noise=0.0, temperature=0.5, seed=0)
    out = torch.empty_like(weights)
    gates.apply(weights, out)
    gate = units.expand((logits > 0).float())
    torch.testing.assert_close(out, weights * gate)

    learned = logits.clone().requires_grad_()
    kept = weights.clone().requires_grad_()
    soft = torch.sigmoid(learned / 0.5)
    hard = (learned > 0).float() + soft - soft.detach()  # straight-through
    (kept * hard[units.expand(torch.arange(layout.units, device=device))]).backward(gradient)
    assert learned.grad is not None
    assert kept.grad is not None
    gates.backward(weights, gradient)
    torch.testing.assert_close(gates.gradient, learned.grad)
    torch.testing.assert_close(gradient, kept.grad)


def test_blocks_of_one_weight_are_the_gates_of_single_weights() -> None:
    torch.manual_seed(0)
    logits, weights, gradient = torch.randn(3, 500)
    blocks = BlockGates(
        logits.clone(), Units(laid_out("1x1", linear(10, 50)), logits.device), 0.7, 0.5, seed=3
    )
    single = LogisticGates(logits.clone(), 0.7, 0.5, seed=3)
    shown = [torch.empty(500), torch.empty(500)]
    gradients = [gradient.clone(), gradient.clone()]
    for gates, out, given in zip((blocks, single), shown, gradients, strict=True):
        gates.hold(0.3)
        gates.apply(weights, out)
        gates.backward(weights, given)
    assert torch.equal(*shown)
    assert torch.equal(*gradients)
    torch.testing.assert_close(blocks.gradient, single.gradient)


def test_a_sample_opens_whole_blocks_as_many_as_the_density_says() -> None:
    layout = laid_out("4x4", linear(400, 800))
    units = Units(layout, torch.device("cpu"))
    gates = BlockGates(torch.randn(layout.units), units, noise=1.0, temperature=1.0, seed=0)
    gates.hold(0.1)
    out = torch.empty(layout.prunable)
    gates.apply(torch.ones(layout.prunable), out)
    assert float(out.mean()) == pytest.approx(0.1, rel=0.05)
    opened = units.gather(out)
    assert torch.equal(opened.min(1).values, opened.max(1).values)


def test_a_state_goes_on_to_the_same_samples() -> None:
    layout = laid_out("2x2", linear(8, 8))
    units = Units(layout, torch.device("cpu"))
    one, other = (
        BlockGates(start * torch.ones(16), units, noise=1.0, temperature=1.0, seed=seed)
        for start, seed in ((0.0, 1), (0.0, 1))
    )
    out = torch.empty(2, 64)
    one.hold(0.5)
    one.apply(torch.ones(64), out[0])
    other.load(one.state())
    for _ in range(5):
        one.apply(torch.ones(64), out[0])
        other.apply(torch.ones(64), out[1])
        assert torch.equal(out[0], out[1])
