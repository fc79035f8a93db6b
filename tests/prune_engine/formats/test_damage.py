"""Files with damaged bytes are read, or refused with a sentence; nothing else ever comes out."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_engine.errors import ModelError
from prune_engine.formats import import_onnx, write_back
from prune_engine.formats.onnx_file import parse_onnx
from tests.prune_engine.formats.sound import sound_files


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return sound_files("lenet", "resnet_option_a", "mobilenet_v3")


def damage(data: bytes, dice: random.Random) -> bytes:
    """Changes, removes or inserts a few bytes, mostly near the beginning, where the structure is."""
    content = bytearray(data)
    for _ in range(dice.choice([1, 1, 2, 4])):
        place = dice.randrange(min(len(content), dice.choice([60, 400, 10**9])))
        kind = dice.randrange(4)
        if kind == 0:
            content[place] = dice.randrange(256)
        elif kind == 1:
            del content[place : place + dice.randrange(1, 9)]
        elif kind == 2:
            content[place:place] = dice.randbytes(dice.randrange(1, 5))
        else:
            content[place] ^= 1 << dice.randrange(8)
    return bytes(content)


@settings(max_examples=600, deadline=None)
@given(st.integers(0, 2**32))
def test_damaged_files_are_read_or_refused(files: list[bytes], seed: int) -> None:
    dice = random.Random(seed)
    data = damage(dice.choice(files), dice)
    try:
        proto = parse_onnx(data)
        module = import_onnx(proto)
    except ModelError:
        return
    write_back(proto, module.state_values())
