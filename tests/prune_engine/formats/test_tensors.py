"""Tensors of a file: what they claim to hold is compared with what is there."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from prune_engine.errors import ModelError
from prune_engine.formats.tensors import to_numpy


@pytest.mark.parametrize("shape", [(), (0,), (3, 4), (2, 0, 3)])
def test_float_values_come_as_they_are(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    assert to_numpy(numpy_helper.from_array(values)).tolist() == values.tolist()


@pytest.mark.parametrize(
    ("dims", "raw"), [([2, 2], 12), ([2, 2], 20), ([-2, -2], 16), ([2, 2], 14), ([2, 2], 0)]
)
def test_float_values_that_are_not_as_many_as_the_shape_says_are_refused(dims: list[int], raw: int) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=bytes(raw))
    with pytest.raises(ModelError, match="The initializer 'w'"):
        to_numpy(tensor, "The initializer 'w'")
