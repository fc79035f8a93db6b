"""Running an ONNX model in onnxruntime, and comparing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from torch import Tensor


def run(proto: onnx.ModelProto, *inputs: Tensor) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs, strict=True)})


def distance(found: Sequence[Tensor], wanted: Sequence[np.ndarray]) -> float:
    """Largest difference over the largest value, of all outputs."""
    assert len(found) == len(wanted)
    worst = 0.0
    for a, b in zip(found, wanted, strict=True):
        assert tuple(a.shape) == b.shape
        worst = max(worst, float(np.abs(a.detach().numpy() - b).max() / max(float(np.abs(b).max()), 1e-6)))
    return worst
