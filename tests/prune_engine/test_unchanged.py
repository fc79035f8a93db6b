"""The check that no weight was trained: every bit counts, in biases as in weights; only pruned ones are 0."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from prune_engine.formats import import_onnx
from prune_engine.formats.fresh import fresh_values
from prune_engine.unchanged import starting_model, values_unchanged
from tests.prune_engine.data.nets import mlp

RANDOM = np.random.default_rng(0)
SENT = mlp([(RANDOM.normal(size=(4, 3)), RANDOM.normal(size=3)), (RANDOM.normal(size=(3, 2)), np.zeros(2))])
MASKS = {"w0": np.arange(12).reshape(4, 3) % 2 == 0, "w1": np.ones((3, 2), bool)}


def changed(name: str, place: tuple[int, ...], value: float) -> onnx.ModelProto:
    """The model under its masks, with one value set."""
    proto = onnx.ModelProto()
    proto.CopyFrom(SENT)
    for item in proto.graph.initializer:
        values = numpy_helper.to_array(item) * MASKS.get(item.name, np.True_)
        if item.name == name:
            values[place] = value
        item.CopyFrom(numpy_helper.from_array(values.astype(np.float32), item.name))
    return proto


def test_a_mask_alone_passes() -> None:
    check = values_unchanged(SENT, changed("none", (), 0), import_onnx(SENT), MASKS)
    assert check.passed
    assert check.detail.startswith("0 of 23 values")


@pytest.mark.parametrize(
    ("name", "place"), [("w0", (0, 0)), ("w1", (2, 1)), ("b0", (1,))], ids=["weight", "last weight", "bias"]
)
def test_one_last_bit_fails(name: str, place: tuple[int, ...]) -> None:
    before = {item.name: numpy_helper.to_array(item) for item in SENT.graph.initializer}[name][place]
    pruned = changed(name, place, float(np.nextafter(before, np.float32(9))))
    check = values_unchanged(SENT, pruned, import_onnx(SENT), MASKS)
    assert not check.passed
    assert check.detail.startswith("1 of 23 values")
    assert repr(name) in check.detail


def test_a_bias_of_minus_zero_is_not_the_zero_that_came() -> None:
    assert not values_unchanged(SENT, changed("b1", (0,), -0.0), import_onnx(SENT), MASKS).passed


def test_fresh_values_are_what_a_run_from_them_is_held_to() -> None:
    module, fresh = import_onnx(SENT), fresh_values(SENT, 7).values
    started = starting_model(SENT, module, fresh)
    stored = {item.name: numpy_helper.to_array(item) for item in started.graph.initializer}
    assert all(np.array_equal(stored[name], value) for name, value in fresh.items())
    assert starting_model(SENT, module, None) is SENT
    assert values_unchanged(started, started, module, MASKS).passed
    assert not values_unchanged(started, SENT, module, MASKS).passed
