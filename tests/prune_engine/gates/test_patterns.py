"""n:m gates: what is drawn, how often, and the gradients next to an explicit Gumbel-Softmax in autograd."""

from __future__ import annotations

from math import comb

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prune_engine.gates import Units, largest
from prune_engine.gates.groups import GroupGates
from prune_engine.gates.patterns import PatternGates, few_patterns, patterns_of
from prune_engine.gates.top_n import TopGates
from tests.prune_engine.devices import DEVICES
from tests.prune_engine.gates.weights import conv, laid_out, linear, matmul

CPU = torch.device("cpu")
KINDS: list[type[PatternGates | TopGates]] = [PatternGates, TopGates]


def units_for(n: int, m: int, device: torch.device = CPU) -> Units:
    return Units(laid_out(f"{n}:{m}", linear(5, 2 * m), matmul(3, m), conv(2, m, side=2)), device)


def test_the_patterns_are_all_ways_to_keep_n_of_m() -> None:
    found = patterns_of(2, 4)
    assert found.shape == (6, 4)
    assert len({tuple(row) for row in found.tolist()}) == comb(4, 2)
    assert (found.sum(1) == 2).all()
    assert few_patterns(2, 4)
    assert few_patterns(4, 8)
    assert not few_patterns(8, 16)


@pytest.mark.parametrize("kind", KINDS)
@given(n=st.integers(1, 4), more=st.integers(1, 4), noise=st.sampled_from([0.0, 1.0]), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=30)
def test_every_group_keeps_exactly_n(
    kind: type[PatternGates | TopGates], n: int, more: int, noise: float, seed: int
) -> None:
    units = units_for(n, n + more)
    total = units.count * units.size
    torch.manual_seed(seed)
    gates = kind(torch.randn(total).round(), units, n, noise, 1.0, seed)
    gates.hold(n / (n + more))
    out = torch.empty(total)
    gates.apply(torch.ones(total), out)
    assert (units.gather(out).sum(1) == n).all()
    assert (units.gather(gates.mask().float()).sum(1) == n).all()


@pytest.mark.parametrize("device", DEVICES)
def test_the_gradient_is_that_of_an_explicit_gumbel_softmax(device: torch.device) -> None:
    torch.manual_seed(0)
    units, temperature, noise = units_for(2, 4, device), 0.7, 0.5
    total = units.count * units.size
    gates = PatternGates(torch.randn(total, device=device), units, 2, noise, temperature, seed=1)
    gates.hold(0.5)
    weights, gradient = torch.randn(2, total, device=device)
    logits = gates.logits.clone().view(6, -1).requires_grad_()
    drawn = PatternGates(torch.zeros(total, device=device), units, 2, noise, temperature, seed=1)
    drawn.apply(weights, torch.empty_like(weights))
    gumbel = drawn._noisy.view(6, -1)  # the same seed, no logits: the noise alone

    out = torch.empty_like(weights)
    gates.apply(weights, out)
    soft = torch.softmax((logits + gumbel) / temperature, 0).T
    hard = torch.nn.functional.one_hot(soft.argmax(1), 6).float() + soft - soft.detach()
    shown = units.gather(weights) * (hard @ patterns_of(2, 4).to(device))
    torch.testing.assert_close(units.gather(out), shown.detach())
    shown.backward(units.gather(gradient))
    assert logits.grad is not None

    masked = gradient * (out != 0)
    gates.backward(weights, gradient)
    torch.testing.assert_close(gates.gradient.view(6, -1), logits.grad)
    torch.testing.assert_close(gradient, masked)


def test_the_gradient_of_the_top_n_is_that_of_a_threshold_that_moves() -> None:
    torch.manual_seed(0)
    units, temperature = units_for(3, 8), 0.7
    total = units.count * units.size
    gates = TopGates(torch.randn(total), units, 3, 0.0, temperature, seed=1)
    gates.hold(3 / 8)
    weights, gradient = torch.randn(2, total)
    gates.apply(weights, torch.empty(total))
    z = gates.logits.clone().view(-1, 8).requires_grad_()
    threshold = _threshold(z.detach(), 3)
    slope = torch.sigmoid((z.detach() - threshold) / temperature)
    slope = slope * (1 - slope) / temperature
    # By the implicit function theorem the threshold moves so that the sum over the group stays.
    moved = threshold + ((z - z.detach()) * slope).sum(1, keepdim=True) / slope.sum(1, keepdim=True)
    torch.sigmoid((z - moved) / temperature).backward(units.gather(weights * gradient))
    gates.backward(weights, gradient)
    torch.testing.assert_close(gates.gradient.view(-1, 8), z.grad)
    assert gates.gradient.view(-1, 8).sum(1).abs().max() < 1e-5


def _threshold(z: Tensor, n: int) -> Tensor:
    ordered = z.sort(1, descending=True).values
    return (ordered[:, n - 1 : n] + ordered[:, n : n + 1]) / 2


def test_patterns_are_drawn_as_often_as_their_softmax_says() -> None:
    units = Units(laid_out("1:2", linear(1, 2)), CPU)
    gates = PatternGates(torch.zeros(2), units, 1, noise=1.0, temperature=1.0, seed=0)
    gates.logits.copy_(torch.tensor([1.0, 0.0]))
    gates.hold(0.5)
    out, counts = torch.empty(2), torch.zeros(2)
    for _ in range(4000):
        gates.apply(torch.ones(2), out)
        counts += out
    kept = patterns_of(1, 2).argmax(1)
    share = counts[kept[0]] / 4000
    assert float(share) == pytest.approx(float(torch.softmax(gates.logits, 0)[0]), abs=0.03)


def test_the_top_n_are_drawn_like_the_patterns_where_one_is_kept() -> None:
    """Of one of m both are a draw from the softmax of the weights' logits."""
    units = Units(laid_out("1:4", linear(200, 40)), CPU)
    importance = torch.tensor([0.0, 1.0, 0.5, -1.0]).repeat(2000)
    expected = torch.softmax(importance[:4], 0)
    for kind in KINDS:
        gates = kind(importance.clone(), units, 1, 1.0, 1.0, 0)
        gates.hold(0.25)
        out = torch.empty(8000)
        gates.apply(torch.ones(8000), out)
        torch.testing.assert_close(units.gather(out).mean(0), expected, atol=0.05, rtol=0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_they_start_with_the_pattern_of_the_most_important_weights(
    kind: type[PatternGates | TopGates],
) -> None:
    units = units_for(2, 4)
    torch.manual_seed(0)
    importance = torch.randn(units.count * units.size)
    mask = kind(importance, units, 2, 0.0, 1.0, 0).mask()
    assert torch.equal(units.gather(mask.float()), largest(units.gather(importance), 2))


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_comes_down_group_by_group_the_least_lossy_first(
    kind: type[PatternGates | TopGates],
) -> None:
    units = Units(laid_out("2:4", linear(4, 100)), CPU)
    torch.manual_seed(0)
    importance = torch.randn(400)
    gates = kind(importance, units, 2, 0.5, 1.0, 0)
    groups = units.gather(importance)
    lost = groups.exp().sort(1).values[:, :2].sum(1)
    out, before = torch.empty(400), torch.zeros(100, dtype=torch.bool)
    for density in (1.0, 0.9, 0.7, 0.5):
        gates.hold(density)
        gates.apply(torch.ones(400), out)
        assert float(out.mean()) == pytest.approx(density, abs=0.005)
        cut = units.gather(out).sum(1) == 2
        assert (cut | ~before).all()
        if cut.any() and not cut.all():
            assert lost[cut].max() <= lost[~cut].min()
        before = cut


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_goes_on_to_the_same_samples(kind: type[PatternGates | TopGates]) -> None:
    units = units_for(2, 4)
    total = units.count * units.size
    importance = torch.randn(total)
    one: GroupGates = kind(importance, units, 2, 1.0, 1.0, 1)
    other: GroupGates = kind(importance, units, 2, 1.0, 1.0, 1)
    out = torch.empty(2, total)
    one.hold(0.6)
    one.apply(torch.ones(total), out[0])
    one.logits.add_(0.1)
    other.load(one.state())
    for _ in range(5):
        one.apply(torch.ones(total), out[0])
        other.apply(torch.ones(total), out[1])
        assert torch.equal(out[0], out[1])
