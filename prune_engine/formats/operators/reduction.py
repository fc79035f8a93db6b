"""Reductions. The axes moved from attribute to input at opset 13 (ReduceSum) and 18 (the others)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from prune_engine.formats.operators.table import Kernel, Node, operator

Axes = list[int]
Reduce = Callable[[Tensor, Axes, bool], Tensor]


def _product(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    for axis in sorted((a % x.dim() for a in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keep)
    return x


def _extreme(of: Callable[..., Tensor], largest: bool) -> Reduce:
    """Of nothing, the largest is the smallest value of the type, and the other way round."""

    def reduce(x: Tensor, axes: Axes, keep: bool) -> Tensor:
        if x.dtype == torch.bool:
            return reduce(x.byte(), axes, keep) > 0
        if all(x.shape[axis] for axis in axes):
            return of(x, axes, keepdim=keep)
        if x.is_floating_point():
            value = -math.inf if largest else math.inf
        else:
            value = torch.iinfo(x.dtype).min if largest else torch.iinfo(x.dtype).max
        empty = x.sum(axes, keepdim=keep, dtype=x.dtype)
        return torch.full_like(empty, value)

    return reduce


def _log_sum_exp(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return torch.logsumexp(x if x.is_floating_point() else x.float(), axes, keepdim=keep)


def _norm(order: int) -> Reduce:
    """vector_norm: the root of a sum of squares has no gradient at zero."""

    def reduce(x: Tensor, axes: Axes, keep: bool) -> Tensor:
        whole = x if x.is_floating_point() else x.double()
        norm: Tensor = torch.linalg.vector_norm(whole, order, axes, keepdim=keep)
        return norm.to(x.dtype)

    return reduce


def _mean(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    if not x.is_floating_point():
        count = math.prod(x.shape[axis] for axis in axes)
        return torch.div(x.sum(axes, keepdim=keep, dtype=x.dtype), count, rounding_mode="trunc")
    return x.mean(axes, keepdim=keep)


def _squares(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return (x * x).sum(axes, keepdim=keep, dtype=x.dtype)


_REDUCTIONS: dict[str, Reduce] = {
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep, dtype=x.dtype),
    "ReduceMean": _mean,
    "ReduceMax": _extreme(torch.amax, True),
    "ReduceMin": _extreme(torch.amin, False),
    "ReduceProd": _product,
    "ReduceL1": _norm(1),
    "ReduceL2": _norm(2),
    "ReduceLogSum": lambda x, axes, keep: torch.log(x.sum(axes, keepdim=keep)),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceSumSquare": _squares,
}
_MOVED_AT_18 = [name for name in _REDUCTIONS if name != "ReduceSum"]


@operator("ReduceSum", until=12)
@operator(*_MOVED_AT_18, until=17)
def _reduce_by_attribute(node: Node) -> Kernel:
    reduce, axes, keep = (
        _REDUCTIONS[node.operator],
        node.attribute("axes"),
        bool(node.attribute("keepdims", 1)),
    )

    def kernel(x: Tensor) -> Tensor:
        return reduce(x, list(range(x.dim())) if axes is None else axes, keep)

    return kernel


@operator("ReduceSum", since=13, host=(1,))
@operator(*_MOVED_AT_18, since=18, host=(1,))
def _reduce_by_input(node: Node) -> Kernel:
    reduce, keep = _REDUCTIONS[node.operator], bool(node.attribute("keepdims", 1))
    identity = bool(node.attribute("noop_with_empty_axes", 0))

    def kernel(x: Tensor, axes: Axes | None = None) -> Tensor:
        if not axes:
            # "no reduction" still applies the function to each element
            return reduce(x.unsqueeze(-1), [-1], False) if identity else reduce(x, list(range(x.dim())), keep)
        return reduce(x, axes, keep)

    return kernel


@operator("ArgMax", "ArgMin")
def _arg_extreme(node: Node) -> Kernel:
    axis, keep = node.attribute("axis", 0), bool(node.attribute("keepdims", 1))
    last = bool(node.attribute("select_last_index", 0))
    pick = torch.argmax if node.operator == "ArgMax" else torch.argmin
    if not last:
        return lambda x: pick(x, axis, keepdim=keep)

    def kernel(x: Tensor) -> Tensor:
        place: Tensor = x.shape[axis] - 1 - pick(x.flip(axis), axis, keepdim=keep)
        return place

    return kernel
