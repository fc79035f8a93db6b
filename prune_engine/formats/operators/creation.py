"""Operators that make tensors out of numbers. Sizes are checked before memory is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from prune_engine.errors import ModelError
from prune_engine.formats.operators.dtypes import compute_dtype
from prune_engine.formats.operators.table import Kernel, Node, operator
from prune_engine.formats.tensors import to_numpy

_LARGEST = 2**28  # elements, 1 GiB of float32


def check_size(shape: Sequence[int]) -> None:
    """Refuses a tensor that no honest model makes.

    Raises:
        ModelError: the shape has a negative size or more than 2**28 elements.
    """
    if any(size < 0 for size in shape) or math.prod(shape) > _LARGEST:
        raise ModelError(
            f"The graph asks for a tensor of shape {list(shape)}, which is more than {_LARGEST} elements. "
            "Check the constants that give the shape."
        )


@operator("Shape", result="list")
def _shape(node: Node) -> Kernel:
    start, end = node.attribute("start", 0), node.attribute("end")
    return lambda x: list(x.shape)[start:end]


@operator("Size", result="number")
def _size(node: Node) -> Kernel:
    return lambda x: x.numel()


@operator("ConstantOfShape", since=9, host=(0,), device=True)
def _constant_of_shape(node: Node) -> Kernel:
    proto = node.attribute("value")
    value = 0.0 if proto is None else to_numpy(proto).reshape(-1)[0].item()
    dtype = torch.float32 if proto is None else compute_dtype(proto.data_type)

    def kernel(device: torch.device, shape: Sequence[int]) -> Tensor:
        check_size(shape)
        return torch.full(tuple(shape), value, dtype=dtype, device=device)

    return kernel


@operator("Range", since=11, host=(0, 1, 2), device=True)
def _range(node: Node) -> Kernel:
    element_type = node.types.get(0)

    def kernel(device: torch.device, start: Any, limit: Any, delta: Any) -> Tensor:
        start, limit, delta = (v[0] if isinstance(v, list) else v for v in (start, limit, delta))
        count = max(math.ceil((limit - start) / delta), 0)
        check_size([count])
        whole = torch.float32 if isinstance(start, float) else torch.int64
        dtype = whole if element_type is None else compute_dtype(element_type)
        steps = torch.arange(count, device=device).to(dtype)
        return torch.add(steps * delta, start)

    return kernel


@operator("EyeLike", since=9)
def _eye_like(node: Node) -> Kernel:
    offset, element_type = node.attribute("k", 0), node.attribute("dtype")

    def kernel(x: Tensor) -> Tensor:
        dtype = x.dtype if element_type is None else compute_dtype(element_type)
        return torch.ones(x.shape, device=x.device).triu(offset).tril(offset).to(dtype)

    return kernel


@operator("OneHot", since=9, host=(1,))
def _one_hot(node: Node) -> Kernel:
    axis = node.attribute("axis", -1)

    def kernel(indices: Tensor, depth: int | float | list[int], values: Tensor) -> Tensor:
        count = int(depth[0] if isinstance(depth, list) else depth)
        check_size([*indices.shape, count])
        wrapped = torch.where(indices < 0, indices + count, indices)
        places = torch.arange(count, device=indices.device, dtype=indices.dtype)
        hit = wrapped.unsqueeze(axis) == places.reshape(
            [-1] + [1] * (indices.dim() - axis % (indices.dim() + 1))
        )
        return torch.where(hit, values[1], values[0])

    return kernel
