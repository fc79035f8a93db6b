"""Which weights can be cut into whole groups and blocks, and what is said of the others."""

from __future__ import annotations

import pytest

from prune_engine.gates import fits
from prune_engine.granularity import parse_granularity
from tests.prune_engine.gates.weights import Weight, conv, linear, matmul, transposed


@pytest.mark.parametrize(
    ("weight", "granularity", "reason"),
    [
        (linear(10, 64), "2:4", None),
        (matmul(10, 64), "2:4", None),
        (linear(64, 10), "2:4", "its 10 inputs are not a multiple of 4"),
        (matmul(64, 10), "2:4", "its 10 inputs are not a multiple of 4"),
        (conv(16, 3), "2:4", "its 3 input channels are not a multiple of 4"),
        (conv(16, 8), "2:4", None),
        (conv(16, 16, groups=8), "2:4", "its 2 input channels of a group are not a multiple of 4"),
        (conv(16, 16, groups=4), "2:4", None),
        (conv(16, 16, groups=16), "1:2", "its 1 input channels of a group are not a multiple of 2"),
        (transposed(6, 8), "2:4", None),
        (transposed(8, 8, groups=4), "2:4", "its 2 input channels of a group are not a multiple of 4"),
        (linear(10, 64), "4x4", "its 10 outputs are not a multiple of 4"),
        (
            linear(10, 66),
            "4x4",
            "its 10 outputs are not a multiple of 4 and its 66 inputs are not a multiple of 4",
        ),
        (conv(16, 16, groups=8), "4x1", "its 2 output channels of a group are not a multiple of 4"),
        (conv(16, 16, groups=4), "4x4", None),
        (transposed(16, 16, groups=8), "4x1", "its 2 output channels of a group are not a multiple of 4"),
        (Weight("Embedding", (9, 8), 0, 1), "4x4", "its 9 entries are not a multiple of 4"),
        (Weight("Embedding", (9, 6), 0, 1), "2:4", "its 6 features are not a multiple of 4"),
        (
            Weight("MatMul", (8,), 0, None),
            "2:4",
            "no axis of it counts the inputs of every node that uses it",
        ),
        (Weight("MatMul", (8,), 0, None), "weight", None),
    ],
)
def test_only_what_divides_fits(weight: Weight, granularity: str, reason: str | None) -> None:
    assert fits(weight, parse_granularity(granularity)) == reason
