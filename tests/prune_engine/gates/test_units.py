"""Where the weights of a unit lie: along the inputs, at one place of the kernel, within a group."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_engine.gates import Layout, Units, unit_view
from prune_engine.granularity import parse_granularity
from tests.prune_engine.devices import DEVICES
from tests.prune_engine.gates.weights import Weight, conv, laid_out, linear, matmul, transposed


def places(weight: Weight, granularity: str) -> list[list[tuple[int, ...]]]:
    """The indices of each unit's weights."""
    numbers = np.arange(weight.count).reshape(weight.shape)
    units = unit_view(numbers, weight, parse_granularity(granularity))
    return [[tuple(int(i) for i in np.unravel_index(n, weight.shape)) for n in unit] for unit in units]


def test_groups_of_a_linear_layer_are_neighbours_along_its_inputs() -> None:
    assert places(linear(2, 4), "1:2") == [
        [(0, 0), (0, 1)],
        [(0, 2), (0, 3)],
        [(1, 0), (1, 1)],
        [(1, 2), (1, 3)],
    ]
    assert places(matmul(2, 4), "1:2")[1] == [(2, 0), (3, 0)]


def test_groups_of_a_convolution_lie_along_its_channels_at_one_place_of_the_kernel() -> None:
    found = places(conv(2, 4, side=2), "2:4")
    assert found[:2] == [[(0, c, 0, 0) for c in range(4)], [(0, c, 0, 1) for c in range(4)]]
    assert len(found) == 8
    assert places(transposed(2, 4, side=1), "2:4") == [[(c, o, 0, 0) for c in range(4)] for o in range(2)]


def test_a_block_is_outputs_by_inputs() -> None:
    assert places(linear(4, 4), "2x2")[1] == [(0, 2), (0, 3), (1, 2), (1, 3)]
    assert places(matmul(4, 2), "4x1") == [[(0, o) for o in range(4)], [(1, o) for o in range(4)]]
    assert places(conv(2, 2, side=2), "2x1")[1] == [(0, 1, 0, 0), (1, 1, 0, 0)]


def test_groups_stay_within_a_group_of_a_transposed_convolution() -> None:
    weight = transposed(4, 8, side=1, groups=2)  # channels 0 to 3 feed outputs 0 and 1, 4 to 7 the others
    for unit in places(weight, "2:4"):
        assert len({channel // 4 for channel, *_ in unit}) == 1


def test_a_stack_of_matrices_is_cut_one_by_one() -> None:
    stack = Weight("MatMul", (3, 4, 2), 2, 1)
    assert {tuple(sorted({i for i, _, _ in unit})) for unit in places(stack, "2:4")} == {(0,), (1,), (2,)}


sizes = st.integers(1, 3)


@settings(deadline=None)
@given(rows=sizes, columns=sizes, r=sizes, c=sizes, side=st.integers(1, 2), kind=st.integers(0, 3))
def test_every_weight_is_in_one_unit_and_comes_back_to_its_place(
    rows: int, columns: int, r: int, c: int, side: int, kind: int
) -> None:
    outputs, inputs = rows * r, columns * c
    weight = [
        linear(outputs, inputs),
        matmul(outputs, inputs),
        conv(outputs, inputs, side),
        transposed(outputs, inputs, side),
    ][kind]
    layout = laid_out(f"{r}x{c}", weight, linear(r, c))
    units = Units(layout, torch.device("cpu"))
    flat = torch.arange(float(layout.prunable))
    gathered = units.gather(flat)
    assert gathered.shape == (layout.units, r * c)
    assert torch.equal(gathered.reshape(-1).sort().values, flat)
    assert torch.equal(units.scatter(gathered), flat)
    numbers = torch.arange(float(layout.units))
    assert torch.equal(units.gather(units.expand(numbers)), numbers.unsqueeze(1).expand(-1, r * c))
    torch.testing.assert_close(units.norms(flat), gathered.square().sum(1).sqrt())


@pytest.mark.parametrize("device", DEVICES)
def test_units_in_order_are_views_and_others_are_not(device: torch.device) -> None:
    def looks(layout: Layout) -> bool:
        flat = torch.zeros(layout.prunable, device=device)
        return Units(layout, device).gather(flat).data_ptr() == flat.data_ptr()

    assert looks(laid_out("2:4", linear(3, 8)))
    assert not looks(laid_out("2:4", matmul(3, 8)))
