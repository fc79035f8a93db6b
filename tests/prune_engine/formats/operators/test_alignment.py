"""Normalisations whose parameters begin anywhere in memory, as they do while they are trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

from prune_engine.formats import import_onnx
from prune_engine.formats.operators.alignment import BYTES, aligned
from tests.prune_engine.devices import DEVICES
from tests.prune_engine.formats.flattened import flat

CHANNELS = 12


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("operator", ["BatchNormalization", "InstanceNormalization"])
@pytest.mark.parametrize("rank", [4, 5])
def test_normalisations_with_channels_last(operator: str, rank: int, device: torch.device) -> None:
    names = ["scale", "shift", "mean", "var"][: 4 if operator.startswith("Batch") else 2]
    random = np.random.default_rng(0)
    values = {name: random.uniform(0.5, 1.5, CHANNELS).astype(np.float32) for name in names}
    values["w"] = np.eye(CHANNELS, dtype=np.float32).reshape(CHANNELS, CHANNELS, *[1] * (rank - 2))
    shape = ["batch", CHANNELS, *[4] * (rank - 2)]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node(operator, ["c", *names], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    module = flat(import_onnx(proto), device).train()
    x = torch.rand(8, CHANNELS, *[4] * (rank - 2), generator=torch.Generator().manual_seed(0))
    last = torch.channels_last if rank == 4 else torch.channels_last_3d
    (found,) = module(x.to(device).contiguous(memory_format=last))
    found.square().sum().backward()
    scale, shift = (torch.from_numpy(values[name]) for name in ("scale", "shift"))
    if operator.startswith("Batch"):
        wanted = functional.batch_norm(x, None, None, scale, shift, training=True)
    else:
        wanted = functional.instance_norm(x, None, None, scale, shift)
    torch.testing.assert_close(found.detach().cpu(), wanted, rtol=1e-4, atol=1e-4)
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("device", DEVICES)
def test_only_what_begins_in_between_is_copied_and_only_on_a_gpu(device: torch.device) -> None:
    together = torch.arange(32.0, device=device)
    assert aligned(together) is together
    between = together[1:]
    found = aligned(between)
    assert torch.equal(found, between)
    assert (found is between) == (device.type == "cpu")
    assert found is between or found.data_ptr() % BYTES == 0
