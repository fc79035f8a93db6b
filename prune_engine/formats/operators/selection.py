"""Operators that take parts of tensors, or put parts together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from prune_engine.formats.operators.table import Kernel, Node, operator


@operator("Concat")
def _concat(node: Node) -> Kernel:
    axis = node.attribute("axis", 1)  # until opset 3 it could be left out
    return lambda *parts: torch.cat(parts, axis)


def _slice(
    x: Tensor,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None = None,
    steps: Sequence[int] | None = None,
) -> Tensor:
    """torch slices only forwards: a negative step becomes a flip."""
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = place if axes is None else axes[place]
        step = 1 if steps is None else steps[place]
        size = x.shape[axis]
        first, last = _bounds(start, end, step, size)
        if step > 0:
            if first == 0 and last == size and step == 1:
                continue
            index = [slice(None)] * (axis % x.dim()) + [slice(first, max(last, first), step)]
            x = x[tuple(index)]
        else:
            picked = range(first, last, step)
            x = x.index_select(axis, torch.tensor(list(picked), dtype=torch.int64, device=x.device))
    return x


def _bounds(start: int, end: int, step: int, size: int) -> tuple[int, int]:
    """From which index up to which other, in an axis of `size`; `slice.indices` is not for torch.compile."""
    lowest, highest = (0, size) if step > 0 else (-1, size - 1)
    first, last = (place + size if place < 0 else place for place in (start, end))
    return min(max(first, lowest), highest), min(max(last, lowest), highest)


@operator("Slice", until=9)
def _slice_by_attributes(node: Node) -> Kernel:
    starts, ends, axes = node.attribute("starts"), node.attribute("ends"), node.attribute("axes")
    return lambda x: _slice(x, starts, ends, axes)


@operator("Slice", since=10, host=(1, 2, 3, 4))
def _slice_by_inputs(node: Node) -> Kernel:
    return _slice


@operator("Split", until=12)
def _split_by_attribute(node: Node) -> Kernel:
    sizes = node.attribute("split")
    return _split(node, lambda _x, _sizes=None: sizes)


@operator("Split", since=13, host=(1,))
def _split_by_input(node: Node) -> Kernel:
    return _split(node, lambda _x, sizes=None: sizes)


def _split(node: Node, sizes_of: Kernel) -> Kernel:
    axis, count = node.attribute("axis", 0), node.attribute("num_outputs") or len(node.outputs)

    def kernel(x: Tensor, given: Sequence[int] | None = None) -> Any:
        sizes = sizes_of(x, given)
        if sizes is None:
            part = -(-x.shape[axis] // count)
            sizes = [part] * (count - 1)
            sizes.append(x.shape[axis] - sum(sizes))
        parts = torch.split(x, list(sizes), axis)
        return parts[0] if len(node.outputs) == 1 else parts

    return kernel


def _wrapped(indices: Tensor, size: int) -> Tensor:
    return torch.where(indices < 0, indices + size, indices)


@operator("Gather", scalars=True)
def _gather(node: Node) -> Kernel:
    axis = node.attribute("axis", 0)
    known = node.constants.get(1)
    safe = known is not None and bool((known >= 0).all())

    def kernel(x: Tensor, indices: Any) -> Tensor:
        if isinstance(indices, int):
            return x.select(axis, indices)
        indices = indices.long()
        if not safe:
            indices = _wrapped(indices, x.shape[axis])
        if axis == 0 and x.dim() == 2:
            return torch.nn.functional.embedding(indices, x)
        if indices.dim() == 1:
            return x.index_select(axis, indices)
        picked = x.index_select(axis, indices.reshape(-1))
        place = axis % x.dim()
        return picked.reshape(x.shape[:place] + indices.shape + x.shape[place + 1 :])

    return kernel


@operator("GatherElements", since=11)
def _gather_elements(node: Node) -> Kernel:
    axis = node.attribute("axis", 0)
    return lambda x, indices: torch.gather(x, axis, _wrapped(indices.long(), x.shape[axis]))


@operator("GatherND", since=11)
def _gather_nd(node: Node) -> Kernel:
    batch = node.attribute("batch_dims", 0)

    def kernel(x: Tensor, indices: Tensor) -> Tensor:
        places = [_wrapped(part.long(), x.shape[batch + i]) for i, part in enumerate(indices.unbind(-1))]
        for axis in range(batch):
            view = [1] * (indices.dim() - 1)
            view[axis] = -1
            places.insert(axis, torch.arange(x.shape[axis], device=x.device).reshape(view))
        return x[tuple(places)]

    return kernel


_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operator("ScatterElements", since=11)
@operator("Scatter", since=9, until=10)
def _scatter_elements(node: Node) -> Kernel:
    axis, reduction = node.attribute("axis", 0), node.attribute("reduction", "none")

    def kernel(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        indices = _wrapped(indices.long(), x.shape[axis])
        if reduction == "none":
            return x.scatter(axis, indices, updates)
        return x.scatter_reduce(axis, indices, updates, _REDUCE[reduction])

    return kernel


@operator("ScatterND", since=11)
def _scatter_nd(node: Node) -> Kernel:
    reduction = node.attribute("reduction", "none")

    def kernel(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        places = tuple(_wrapped(part.long(), x.shape[i]) for i, part in enumerate(indices.unbind(-1)))
        if reduction in ("none", "add"):
            return x.index_put(places, updates, accumulate=reduction == "add")
        if not places:
            raise NotImplementedError("ScatterND without indices")
        depth, flat = indices.shape[-1], places[0]
        for axis, part in enumerate(places[1:], start=1):
            flat = flat * x.shape[axis] + part
        rows = x.reshape(-1, *x.shape[depth:])
        values = updates.reshape(-1, *x.shape[depth:])
        index = flat.reshape(-1, *[1] * (values.dim() - 1)).expand(values.shape)
        return rows.scatter_reduce(0, index, values, _REDUCE[reduction]).reshape(x.shape)

    return kernel


@operator("Compress", since=9)
def _compress(node: Node) -> Kernel:
    axis = node.attribute("axis")

    def kernel(x: Tensor, condition: Tensor) -> Tensor:
        picked = condition.nonzero().reshape(-1)
        return x.reshape(-1)[picked] if axis is None else x.index_select(axis, picked)

    return kernel


@operator("NonZero", since=9)
def _non_zero(node: Node) -> Kernel:
    return lambda x: x.nonzero().t()


@operator("Trilu", since=14, host=(1,))
def _trilu(node: Node) -> Kernel:
    keep = torch.triu if node.attribute("upper", 1) else torch.tril

    def kernel(x: Tensor, k: int | Sequence[int] | None = None) -> Tensor:
        diagonal = 0 if k is None else (k if isinstance(k, int) else k[0])
        return keep(x, diagonal)

    return kernel


@operator("ReverseSequence", since=10)
def _reverse_sequence(node: Node) -> Kernel:
    batch, time = node.attribute("batch_axis", 1), node.attribute("time_axis", 0)

    def kernel(x: Tensor, lengths: Tensor) -> Tensor:
        rows = x.movedim((batch, time), (0, 1))
        steps = torch.arange(rows.shape[1], device=x.device).expand(rows.shape[:2])
        ends = lengths.reshape(-1, 1)
        order = torch.where(steps < ends, ends - 1 - steps, steps)
        order = order.reshape(order.shape + (1,) * (rows.dim() - 2)).expand(rows.shape)
        return rows.gather(1, order).movedim((0, 1), (batch, time))

    return kernel
