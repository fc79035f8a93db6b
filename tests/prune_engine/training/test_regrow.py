"""Exchanging weights at an exact density: what goes, what comes, when, and that the count never changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from prune_engine.events import silent
from prune_engine.gates import FlatParameters
from prune_engine.spec import PruneSpec
from prune_engine.training import train
from prune_engine.training.phases import FixedMaskPhase
from prune_engine.training.regrow import FEWEST_STEPS, Regrowth, updates_in
from tests.prune_engine.training.tasks import CPU, digits, nonzero


@dataclass(frozen=True)
class Weight:
    """A weight of a layer, outputs first."""

    shape: tuple[int, ...]
    kind: str = "Gemm"
    output_axis: int = 0
    input_axis: int | None = 1
    groups: int = 1


def noted(gradients: Tensor, share: float) -> Regrowth:
    regrowth = Regrowth(gradients.shape[1], share, 0.0, 1.0, CPU)
    for gradient in gradients:
        regrowth.note(gradient)
    return regrowth


def test_the_weight_that_costs_least_goes_and_the_steadiest_gradient_comes() -> None:
    # Weight 0 is the smallest but matters most; the gradient of 3 is larger than that of 4 and only noise.
    sign = torch.tensor([1.0, -1.0]).repeat(15)
    columns = [10 * sign, 0.1 * sign, 5 * sign, 3 * sign, torch.ones(30), torch.zeros(30)]
    regrowth = noted(torch.stack(columns, 1), share=0.34)
    goes, comes = regrowth.exchange(0.0, torch.tensor([0, 1, 2]), torch.tensor([0.1, 0.5, 1.0]))
    assert (goes.tolist(), comes.tolist()) == ([1], [4])


def test_a_weight_without_a_gradient_never_comes() -> None:
    regrowth = noted(torch.tensor([[1.0, 1.0, 0.0, 0.0]]), share=1.0)
    goes, comes = regrowth.exchange(0.0, torch.tensor([0, 1]), torch.ones(2))
    assert len(goes) == len(comes) == 0


def test_no_layer_gives_away_its_last_weight() -> None:
    gradients = torch.ones(30, 6)
    for layers, gone in (((), [0, 1]), ((Weight((2, 1)), Weight((4, 1))), [1])):
        regrowth = Regrowth(6, 0.7, 0.0, 1.0, CPU, layers)
        for gradient in gradients:
            regrowth.note(gradient)
        # The first layer, of two weights, has one kept, and that is the cheapest of the three.
        goes, comes = regrowth.exchange(0.0, torch.tensor([0, 2, 3]), torch.tensor([0.1, 0.5, 1.0]))
        assert sorted(goes.tolist()) == gone
        assert len(comes) == len(goes)


def test_no_output_gets_more_than_two_at_a_time() -> None:
    # Two layers of 3 x 4 and, its outputs last, 2 x 3; the steadiest gradients all ask for output 1.
    gradients = torch.zeros(30, 18)
    gradients[:, 4:8] = torch.tensor([9.0, 8.0, 7.0, 6.0])
    gradients[:, :3] = torch.tensor([1.0, 3.0, 2.0])
    gradients[:, 12:18] = torch.tensor([0.1, 5.0, 0.2, 4.0, 0.3, 4.5])
    gradients += 0.5 * torch.randn(30, 18, generator=torch.Generator().manual_seed(0)) * gradients
    layers = (Weight((3, 4)), Weight((2, 3), output_axis=1))
    regrowth = Regrowth(18, 1.0, 0.0, 1.0, CPU, layers)
    for gradient in gradients:
        regrowth.note(gradient)
    _, comes = regrowth.exchange(0.0, torch.tensor([3, 8, 9, 10, 11, 12]), torch.ones(6))
    assert len(comes) == 4
    assert len({4, 5, 6, 7} & set(comes.tolist())) == 2
    free = noted(gradients, 1.0)
    _, anywhere = free.exchange(0.0, torch.tensor([3, 8, 9, 10, 11, 12]), torch.ones(6))
    assert {4, 5, 6, 7} < set(anywhere.tolist())


@given(
    seed=st.integers(0, 99),
    size=st.integers(2, 40),
    share=st.floats(0.0, 1.0),
    done=st.floats(0.0, 1.0),
)
def test_as_many_come_as_go_and_none_of_them_was_there(
    seed: int, size: int, share: float, done: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    index = torch.randperm(size, generator=generator)[: size // 2 + 1].sort().values
    gradients = torch.randn(5, size, generator=generator)
    weights = torch.randn(len(index), generator=generator)
    outcomes = [noted(gradients, share).exchange(done, index, weights) for _ in range(2)]
    goes, comes = outcomes[0]
    assert len(set(goes.tolist())) == len(set(comes.tolist())) == len(goes) == len(comes)
    assert not set(comes.tolist()) & set(index.tolist())
    assert all(torch.equal(one, other) for one, other in zip(*outcomes, strict=True))


def test_it_waits_for_enough_steps_and_ends_in_time() -> None:
    regrowth = Regrowth(4, 0.2, 0.5, 0.9, CPU)
    for _ in range(FEWEST_STEPS - 1):
        regrowth.note(torch.ones(4))
    assert not regrowth.due(0.8)
    regrowth.note(torch.ones(4))
    assert regrowth.due(0.8)
    assert not regrowth.due(0.51)
    assert not regrowth.due(0.9)


def test_the_module_sees_exactly_the_kept_weights_after_every_exchange() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(40))
    flat = FlatParameters({"weight": weight}, ["weight"], CPU)
    mask = torch.arange(40) < 10
    phase = FixedMaskPhase(flat, mask, 1e-2, 0.0, regrowth=Regrowth(40, 0.3, 0.0, 0.8, CPU))
    target, steps, masks = torch.randn(40), 400, set()
    for step in range(steps):
        if step == 0.8 * steps:
            mask = phase.fix()
        phase.before_forward(step / steps)
        assert int((weight != 0).sum()) <= 10
        torch.autograd.backward((weight - target).square().sum())
        phase.after_backward(step / steps)
        masks.add(tuple(flat.shown.nonzero().reshape(-1).tolist()))
    phase.finish()
    assert len(masks) > 2
    assert int(mask.sum()) == 10
    assert torch.equal(weight != 0, mask)
    # What is worth most on this bowl are the largest targets.
    assert float(target[mask].abs().mean()) > 1.5 * float(target[~mask].abs().mean())


@pytest.mark.parametrize("density", [0.02, 0.05])
def test_digits_keep_their_count_through_a_training_that_exchanges(density: float) -> None:
    outcomes = []
    for _ in range(2):
        network, task = digits()
        spec = PruneSpec(density=density, epochs=20, seed=3)
        result = train(network, task, spec, CPU, silent)  # type: ignore[arg-type]
        assert result.settings["gates_until"] < result.settings["fix_mask_at"]
        assert result.settings["regrow"] > 0.0
        kept = result.settings["kept"]
        assert nonzero(network) == kept == sum(int(mask.sum()) for mask in result.masks.values())
        for name, mask in result.masks.items():
            assert np.array_equal(network.state_values()[name] != 0, mask)
            assert np.array_equal(result.before_finetuning[name] != 0, mask)
        outcomes.append({name: value.copy() for name, value in network.state_values().items()})
    assert all(np.array_equal(outcomes[0][name], outcomes[1][name]) for name in outcomes[0])


def test_longer_exchanges_have_more_updates_up_to_fifty() -> None:
    assert [updates_in(steps) for steps in (0, 1_700, 3_000, 5_000, 10**6)] == [17, 17, 30, 50, 50]
