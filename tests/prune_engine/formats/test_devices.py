"""Kernels stay on the device of their inputs, checked without a GPU: on tensors that pretend to be on one.

torch refuses to mix devices for such tensors as it does for real ones. What needs values is left out.
"""

from __future__ import annotations

import onnx
import torch
from onnx import ModelProto, numpy_helper
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.conformance.backend_cases import EXPLAINED, Case, cases
from prune_engine.formats.importer import compile_graph
from prune_engine.formats.values import to_torch

LEAST = 1500
_LONGEST = 64


def with_known_sizes(case: Case) -> tuple[ModelProto, list[torch.Tensor]]:
    """The case with its short lists and numbers (shapes, axes, sizes) as constants, and its other inputs."""
    model = ModelProto()
    model.CopyFrom(case.model)
    del model.graph.input[:]
    inputs = []
    for position, (info, value) in enumerate(zip(case.model.graph.input, case.data_sets[0][0], strict=True)):
        array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
        if position and array.ndim <= 1 and array.size <= _LONGEST:
            model.graph.initializer.append(numpy_helper.from_array(array, info.name))
        else:
            model.graph.input.append(info)
            inputs.append(to_torch(array))
    return model, inputs


def off_device(case: Case) -> str | None:
    """What mixed or left devices, None where nothing did, "values" where the case could not be told."""
    model, inputs = with_known_sizes(case)
    module = compile_graph(model).eval()
    with FakeTensorMode(), torch.no_grad():
        for name, buffer in list(module.named_buffers()):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda"))
        given = [torch.empty(value.shape, dtype=value.dtype, device="cuda") for value in inputs]
        try:
            found = module(*given)
        except Exception as error:  # noqa: BLE001  # most need values, which such tensors have not
            return str(error) if "devices" in str(error) and "linked" not in str(error) else "values"
    left = [tensor.device for tensor in found if tensor.device.type != "cuda"]
    return f"an output is on {left[0]}" if left else None


def test_no_kernel_mixes_or_leaves_devices() -> None:
    results = {
        case.name: off_device(case)
        for case in cases("node")
        if case.outside is None and case.name not in EXPLAINED and not case.model.graph.initializer
    }
    assert sum(result is None for result in results.values()) >= LEAST
    assert not {name: what for name, what in results.items() if what not in (None, "values")}
