"""Flat parameters: the module sees views, gradients come back flat, masks go back to their shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prune_engine.errors import ModelError
from prune_engine.gates import FlatParameters
from tests.prune_engine.devices import DEVICES

CPU = torch.device("cpu")


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def flatten(net: nn.Module, device: torch.device = CPU) -> FlatParameters:
    return FlatParameters(dict(net.to(device).named_parameters()), ["0.weight", "3.weight"], device)


@pytest.mark.parametrize("device", DEVICES)
def test_the_module_computes_the_same_and_sees_what_is_shown(device: torch.device) -> None:
    net, x = small_net().to(device), torch.rand(4, 1, 4, 4, device=device)
    before = net(x)
    flat = flatten(net, device)
    torch.testing.assert_close(net(x), before)
    flat.shown.zero_()
    assert float(net(x).abs().max()) == 0.0


@pytest.mark.parametrize("device", DEVICES)
def test_the_flat_gradient_is_that_of_autograd(device: torch.device) -> None:
    net, twin, x = (
        small_net().to(device),
        small_net().to(device),
        torch.rand(4, 1, 4, 4, device=device),
    )
    flat = flatten(net, device)
    for _ in range(2):  # the second time must not add to the first
        net(x).square().sum().backward()
        flat.collect()
    twin(x).square().sum().backward()
    named = dict(twin.named_parameters())
    order = ["0.weight", "3.weight", *(name for name in named if name not in ("0.weight", "3.weight"))]
    expected = torch.cat([named[name].grad.reshape(-1) for name in order])  # type: ignore[union-attr]
    torch.testing.assert_close(flat.values.grad, expected)
    assert flat.prunable == 18 + 24
    torch.testing.assert_close(flat.gradient, expected[:42])


def test_a_parameter_without_gradient_counts_as_zero() -> None:
    net = small_net()
    flat = flatten(net)
    net(torch.rand(4, 1, 4, 4)).sum().backward()
    flat.collect()
    net[3].bias.sum().backward()
    flat.collect()
    assert float(flat.gradient.abs().max()) == 0.0


def test_a_mask_goes_back_to_names_and_shapes() -> None:
    flat = flatten(small_net())
    mask = torch.zeros(42, dtype=torch.bool)
    mask[0] = mask[41] = True
    masks = flat.split_mask(mask)
    assert {name: array.shape for name, array in masks.items()} == {
        "0.weight": (2, 1, 3, 3),
        "3.weight": (3, 8),
    }
    assert masks["0.weight"][0, 0, 0, 0]
    assert masks["3.weight"][2, 7]
    assert sum(int(np.count_nonzero(array)) for array in masks.values()) == 2


def test_mixed_types_are_refused() -> None:
    net = small_net()
    net[3].double()
    with pytest.raises(ModelError, match=r"float32, torch\.float64"):
        flatten(net)


@pytest.mark.parametrize("together", [1, 20, 1000])
def test_pieces_are_the_flat_gradient_cut_where_the_prunable_part_ends(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prune_engine.gates.flat.chunk_length", lambda device: together)
    net, x = small_net(), torch.rand(4, 1, 4, 4)
    flat = flatten(net)
    net(x).square().sum().backward()
    whole = flat.collect().clone()
    net(x).square().sum().backward()
    pieces = [(place, gradient.clone()) for place, gradient in flat.pieces()]
    torch.testing.assert_close(torch.cat([gradient for _, gradient in pieces]), whole)
    assert [place.start for place, _ in pieces] == [0, *(place.stop for place, _ in pieces[:-1])]
    assert any(place.stop == flat.prunable for place, _ in pieces)
    assert len(pieces) == {1: 6, 20: 3, 1000: 2}[together]
    assert all(parameter.grad is None for parameter in net.parameters())
