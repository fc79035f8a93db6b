"""MatMulNBits against onnxruntime, and what it cannot do refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from prune_engine.errors import UnsupportedOperatorError
from prune_engine.formats.importer import compile_graph
from prune_engine.formats.operators.packed_weights import unpacked
from tests.prune_engine.formats.operators.one_node import MICROSOFT, Inputs, agree, by_onnxruntime, model

RANDOM = np.random.default_rng(10)
N, K, BLOCK = 5, 40, 16
BLOCKS = 3  # the last one is half empty


def inputs(bits: int, zeros: bool = False) -> dict[str, np.ndarray | None]:
    packed = RANDOM.integers(0, 256, (N, BLOCKS, BLOCK * bits // 8)).astype(np.uint8)
    points = RANDOM.integers(0, 256, (N, -(-BLOCKS * bits // 8))).astype(np.uint8)
    return {
        "a": RANDOM.standard_normal((2, 3, K)).astype(np.float32),
        "b": packed,
        "s": (RANDOM.random((N, BLOCKS)) / 10).astype(np.float32),
        "z": points if zeros else None,
        "g": None,
        "bias": RANDOM.random(N).astype(np.float32),
    }


def proto_of(given: Inputs, **more: Any) -> Any:
    constants = [name for name, value in given.items() if value is not None and name != "a"]
    options = {"K": K, "N": N, "block_size": BLOCK} | more
    return model("MatMulNBits", given, domain=MICROSOFT, constants=constants, **options)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_packed_weights_by_block(bits: int, zeros: bool) -> None:
    given = inputs(bits, zeros)
    proto = proto_of(given, bits=bits)
    agree(proto, given, by_onnxruntime(proto, given), 1e-4)


def test_the_lowest_bits_come_first() -> None:
    assert unpacked(torch.tensor([0b11100100], dtype=torch.uint8), 2).tolist() == [0, 1, 2, 3]
    assert unpacked(torch.tensor([0x21, 0x43], dtype=torch.uint8), 4).tolist() == [1, 2, 3, 4]


def test_the_gradient_reaches_what_is_multiplied() -> None:
    given = inputs(4)
    a = torch.from_numpy(given["a"]).requires_grad_()  # type: ignore[arg-type]
    compile_graph(proto_of(given, bits=4))(a)[0].square().sum().backward()
    assert a.grad is not None
    assert bool(a.grad.isfinite().all())
    assert float(a.grad.abs().sum()) > 0


@pytest.mark.parametrize(
    ("option", "named"), [({"bits": 3}, "3 bits"), ({"weight_prepacked": 1}, "packed for")]
)
def test_other_packings_are_refused_by_name(option: dict[str, int], named: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=named):
        compile_graph(proto_of(inputs(4), **option))


def test_reordered_groups_are_refused_by_name() -> None:
    given = inputs(4) | {"g": np.zeros(48, np.int32)}
    with pytest.raises(UnsupportedOperatorError, match="g_idx"):
        compile_graph(proto_of(given, bits=4))
