"""What a granularity is in words, what is refused, and that n:m says the density itself."""

from __future__ import annotations

import pytest

from prune_engine.errors import SpecError
from prune_engine.granularity import Blocks, Patterns, SingleWeights, parse_granularity
from prune_engine.spec import parse_spec


def test_the_three_kinds_are_read() -> None:
    assert parse_granularity("weight") == SingleWeights()
    assert parse_granularity("2:4") == Patterns(2, 4)
    assert parse_granularity(" 16X8 ") == Blocks(16, 8)
    assert [str(parse_granularity(text)) for text in ("weight", "1:8", "4x1")] == ["weight", "1:8", "4x1"]


@pytest.mark.parametrize(
    "text", ["", "2:", "4:4", "0:4", "3:2", "2:257", "0x4", "4x0", "4x4x4", "1025x1", "-2:4"]
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"n:m|block"):
        parse_granularity(text)


def test_a_pattern_is_its_density() -> None:
    assert parse_spec({"granularity": "2:4"}).density == 0.5
    assert parse_spec({"granularity": "1:3", "density": "0.333"}).granularity == "1:3"
    with pytest.raises(SpecError, match=r"2:4 is density 0\.5; leave density out") as caught:
        parse_spec({"granularity": "2:4", "density": 0.3})
    assert caught.value.param == "density"


def test_a_wrong_granularity_is_named_also_without_a_density() -> None:
    for fields in ({"granularity": "5:4"}, {"granularity": "five"}, {"granularity": "five", "density": 0.1}):
        with pytest.raises(SpecError, match="granularity: ") as caught:
            parse_spec(fields)
        assert caught.value.param == "granularity"


def test_blocks_need_a_density() -> None:
    with pytest.raises(SpecError, match="density"):
        parse_spec({"granularity": "4x4"})


@pytest.mark.parametrize(
    "bounds",
    [{"a": [0.5, 0.2]}, {"a": [0.1]}, {"a": [-0.1, 1]}, {"a": [0, 1.5]}, "nonsense", '{"a": [0.5, 0.2]}'],
)
def test_bounds_that_are_none_are_refused(bounds: object) -> None:
    with pytest.raises(SpecError, match="layer_density") as caught:
        parse_spec({"density": 0.1, "layer_density": bounds})
    assert caught.value.param == "layer_density"


def test_bounds_come_as_json_and_may_be_open() -> None:
    spec = parse_spec({"density": 0.1, "layer_density": '{"conv*": [0.2, null], "fc": [null, 0.05]}'})
    assert spec.layer_density == {"conv*": (0.2, None), "fc": (None, 0.05)}


def test_a_pattern_leaves_no_room_for_bounds() -> None:
    with pytest.raises(SpecError, match=r"density 0\.5 in every layer"):
        parse_spec({"granularity": "2:4", "layer_density": {"a": [0.1, 0.9]}})
