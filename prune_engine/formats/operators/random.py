"""Random generators. They draw from torch's own: a seed in the file does not give onnxruntime's numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from onnx import TensorProto
from torch import Tensor

from prune_engine.formats.operators.creation import check_size
from prune_engine.formats.operators.dtypes import compute_dtype
from prune_engine.formats.operators.table import Kernel, Node, operator


def _draw(node: Node, shape: Sequence[int], device: torch.device) -> Tensor:
    if node.operator.startswith("RandomNormal"):
        mean, scale = node.attribute("mean", 0.0), node.attribute("scale", 1.0)
        return torch.add(torch.randn(tuple(shape), device=device) * scale, mean)
    low, high = node.attribute("low", 0.0), node.attribute("high", 1.0)
    return torch.add(torch.rand(tuple(shape), device=device) * (high - low), low)


@operator("RandomNormal", "RandomUniform", device=True)
def _random(node: Node) -> Kernel:
    shape, dtype = node.attribute("shape"), compute_dtype(node.attribute("dtype", TensorProto.FLOAT))
    check_size(shape)
    return lambda device: _draw(node, shape, device).to(dtype)


@operator("RandomNormalLike", "RandomUniformLike", folds=False)
def _random_like(node: Node) -> Kernel:
    element_type = node.attribute("dtype")

    def kernel(x: Tensor) -> Tensor:
        dtype = x.dtype if element_type is None else compute_dtype(element_type)
        return _draw(node, x.shape, x.device).to(dtype)

    return kernel


@operator("Bernoulli", since=15, folds=False)
def _bernoulli(node: Node) -> Kernel:
    element_type = node.attribute("dtype")

    def kernel(x: Tensor) -> Tensor:
        dtype = x.dtype if element_type is None else compute_dtype(element_type)
        return torch.bernoulli(x).to(dtype)

    return kernel


@operator("Multinomial", since=7, folds=False)
def _multinomial(node: Node) -> Kernel:
    """Classes drawn from log-probabilities that need not be normalised."""
    count = node.attribute("sample_size", 1)
    dtype = compute_dtype(node.attribute("dtype", TensorProto.INT32))
    return lambda x: torch.multinomial(torch.softmax(x, -1), count, replacement=True).to(dtype)
