"""A model of one node, computed by onnxruntime, by ONNX's reference implementation and by the importer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper
from onnx.reference import ReferenceEvaluator

from prune_engine.formats.importer import compile_graph
from prune_engine.formats.module import OnnxModule

Inputs = Mapping[str, np.ndarray | None]
MICROSOFT = "com.microsoft"


def model(
    operator: str,
    inputs: Inputs,
    outputs: int | Sequence[str] = 1,
    *,
    opset: int = 17,
    domain: str = "",
    version: int = 1,
    constants: Sequence[str] = (),
    types: Mapping[str, int] | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """One node; an input that is None is left out, those in `constants` are initializers.

    `version` is that of `domain`, `types` gives the element types of outputs that are not float.
    """
    names = [f"y{i}" for i in range(outputs)] if isinstance(outputs, int) else list(outputs)
    given = [name if value is not None else "" for name, value in inputs.items()]
    while given and not given[-1]:
        given.pop()
    node = helper.make_node(operator, given, names, name="it", domain=domain, **attributes)
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
        if value is not None and name not in constants
    ]
    graph = helper.make_graph(
        [node],
        "g",
        values,
        [helper.make_tensor_value_info(name, (types or {}).get(name, 1), None) for name in names if name],
        [onnx.numpy_helper.from_array(inputs[name], name) for name in constants],
    )
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, version)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def by_onnxruntime(proto: onnx.ModelProto, inputs: Inputs) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, fed(proto, inputs))


def by_reference(proto: onnx.ModelProto, inputs: Inputs) -> list[np.ndarray]:
    return ReferenceEvaluator(proto).run(None, fed(proto, inputs))


def fed(proto: onnx.ModelProto, inputs: Inputs) -> dict[str, np.ndarray]:
    return {value.name: inputs[value.name] for value in proto.graph.input}


def computed(module: OnnxModule, proto: onnx.ModelProto, inputs: Inputs) -> list[torch.Tensor]:
    return list(module(*(torch.from_numpy(value.copy()) for value in fed(proto, inputs).values())))


def agree(
    proto: onnx.ModelProto, inputs: Inputs, wanted: Sequence[np.ndarray], tolerance: float = 2e-5
) -> None:
    """The importer's values are those of `wanted`, and its gradient is what finite differences of it say."""
    module = compile_graph(proto).eval()
    with torch.no_grad():
        found = computed(module, proto, inputs)
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert tuple(a.shape) == b.shape
        np.testing.assert_allclose(a.numpy(), b, rtol=tolerance * 10, atol=tolerance)


def gradient_agrees(
    proto: onnx.ModelProto, inputs: Inputs, tolerance: float = 0.02, width: float = 0.03
) -> None:
    """The derivative along a random direction of all float inputs, against central differences."""
    module = compile_graph(proto).eval()
    random = np.random.default_rng(3)
    values = {
        name: torch.from_numpy(value.copy()).requires_grad_(value.dtype == np.float32)
        for name, value in fed(proto, inputs).items()
    }
    trained = [value for value in values.values() if value.requires_grad]
    ways = [torch.from_numpy(random.standard_normal(tuple(v.shape)).astype(np.float32)) for v in trained]
    outputs = module(*values.values())
    places = [i for i, out in enumerate(outputs) if out.is_floating_point() and out.requires_grad]
    results = [outputs[i] for i in places]
    width = width / sum(value.numel() for value in trained) ** 0.5
    weights = [
        torch.from_numpy(random.standard_normal(tuple(out.shape)).astype(np.float32)) for out in results
    ]
    total = sum((out * weight).sum() for out, weight in zip(results, weights, strict=True))
    gradients = torch.autograd.grad(total, trained, allow_unused=True)
    assert all(gradient is None or bool(gradient.isfinite().all()) for gradient in gradients)
    along = sum(float((g * way).sum()) for g, way in zip(gradients, ways, strict=True) if g is not None)

    def at(shift: float) -> float:
        with torch.no_grad():
            for value, way in zip(trained, ways, strict=True):
                value += shift * way
            outputs = module(*values.values())
            loss = sum(float((outputs[i].double() * w).sum()) for i, w in zip(places, weights, strict=True))
            for value, way in zip(trained, ways, strict=True):
                value -= shift * way
        return loss

    measured = (at(width) - at(-width)) / (2 * width)
    assert abs(along - measured) <= tolerance * max(1.0, abs(measured)), f"{along} {measured}"
    assert along != 0


def holds(
    operator: str, inputs: Inputs, outputs: int | Sequence[str] = 1, gradient: bool = True, **options: Any
) -> None:
    """The importer agrees with onnxruntime in values and, unless told otherwise, has the right gradient."""
    proto = model(operator, inputs, outputs, **options)
    agree(proto, inputs, by_onnxruntime(proto, inputs))
    if gradient:
        gradient_agrees(proto, inputs)
