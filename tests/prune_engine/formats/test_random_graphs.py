"""What holds for any graph: nothing is lost on the way in and back, and every weight learns."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from prune_engine.formats import import_onnx, read_values, structural_differences, write_back
from tests.prune_engine.formats.random_graphs import models

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
onnxruntime.set_default_logger_severity(4)


def session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(proto.SerializeToString(), options)


def row(proto: onnx.ModelProto, seed: int) -> Tensor:
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def apart(found: Tensor, wanted: np.ndarray) -> float:
    return float(np.abs(found.detach().numpy() - wanted).max() / max(float(np.abs(wanted).max()), 1e-3))


def halves(proto: onnx.ModelProto) -> bool:
    """Whether something computes in float16, which here is float32."""
    return any(node.op_type == "Cast" and node.attribute[0].i == 10 for node in proto.graph.node)


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(models(), st.integers(0, 2**31))
def test_untouched_graphs_go_back_bit_for_bit_and_compute_the_same(proto: onnx.ModelProto, seed: int) -> None:
    onnx.checker.check_model(proto)
    before = proto.SerializeToString(deterministic=True)
    module = import_onnx(proto).eval()
    assert write_back(proto, module.state_values()).SerializeToString(deterministic=True) == before
    x = row(proto, seed)
    with torch.no_grad():
        assert apart(module(x)[0], session(proto).run(None, {"x": x.numpy()})[0]) < (
            2e-2 if halves(proto) else 1e-4
        )


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(models(), st.integers(0, 2**31))
def test_every_weight_learns_and_new_values_are_what_the_file_computes_with(
    proto: onnx.ModelProto, seed: int
) -> None:
    module, x = import_onnx(proto).eval(), row(proto, seed)
    output = module(x)[0]
    (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(seed))).sum().backward()
    always = {node.name for node in proto.graph.node}  # what lies in a branch may not run
    with torch.no_grad():
        for weight in module.prunable:
            parameter = module.weights[weight.name]
            if parameter.grad is None:
                assert not always & set(weight.nodes)
            else:
                assert torch.isfinite(parameter.grad).all()
            parameter.mul_(torch.rand(parameter.shape) > 0.5)
    written = write_back(proto, module.state_values())
    assert structural_differences(proto, written) == []
    with torch.no_grad():
        assert apart(module(x)[0], session(written).run(None, {"x": x.numpy()})[0]) < (
            2e-2 if halves(proto) else 1e-4
        )
    found = read_values(written, [weight.name for weight in module.prunable])
    for name, value in found.items():
        kept = module.weights[name].detach().numpy() != 0
        assert (np.asarray(value, np.float32)[~kept] == 0).all()
