"""A float16 model is trained in float32 and goes back as float16, with the zeros that the mask says."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from prune_engine import PruneSpec, prune
from prune_engine.data.built_in import digits
from tests.quantised import float_net, images


@pytest.mark.parametrize("float_inputs", [True, False])
def test_a_float16_model(float_inputs: bool, tmp_path: Path) -> None:
    data = digits()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = onnx.load(float_net(data, tmp_path))
        sent = convert_float_to_float16(plain, keep_io_types=float_inputs)
    result = prune(sent, data, PruneSpec(density=0.2, epochs=3))
    session = onnxruntime.InferenceSession(result.model.SerializeToString())
    x = images(data, "test").astype(np.float32 if float_inputs else np.float16)
    (output,) = session.run(None, {"x": x})
    assert 100 * float((output.argmax(1) == data["y_test"]).mean()) > 90
    tensors = {tensor.name: tensor for tensor in result.model.graph.initializer}
    assert {tensor.data_type for tensor in tensors.values()} == {TensorProto.FLOAT16}
    for name, mask in result.masks.items():
        np.testing.assert_array_equal(numpy_helper.to_array(tensors[name]) != 0, mask)
    detail = next(check.detail for check in result.report.checks if "agrees" in check.name)
    assert "float16 inside" in detail
