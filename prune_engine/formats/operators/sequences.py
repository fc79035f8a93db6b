"""Sequences of tensors, as Python lists, and optional tensors, as tensors or None.

Exporters write them inside a graph; as inputs of a model they are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from prune_engine.formats.operators.table import Kernel, Node, NotSupportedError, operator

Tensors = Sequence[Tensor]


@operator("SequenceConstruct", since=11, folds=False)
def _construct(node: Node) -> Kernel:
    return lambda *tensors: list(tensors)


@operator("SequenceEmpty", since=11, folds=False)
def _empty(node: Node) -> Kernel:
    return list


@operator("SequenceAt", since=11, host=(1,), folds=False)
def _at(node: Node) -> Kernel:
    return lambda tensors, place: tensors[_place(place)]


@operator("SequenceLength", since=11, result="number", folds=False)
def _length(node: Node) -> Kernel:
    return len


@operator("SequenceInsert", since=11, host=(2,), folds=False)
def _insert(node: Node) -> Kernel:
    def kernel(tensors: Tensors, tensor: Tensor, place: Any = None) -> list[Tensor]:
        at = len(tensors) if place is None else _place(place)
        return [*tensors[:at], tensor, *tensors[at:]]

    return kernel


@operator("SequenceErase", since=11, host=(1,), folds=False)
def _erase(node: Node) -> Kernel:
    def kernel(tensors: Tensors, place: Any = None) -> list[Tensor]:
        at = (-1 if place is None else _place(place)) % len(tensors)
        return [*tensors[:at], *tensors[at + 1 :]]

    return kernel


def _place(value: Any) -> int:
    place: int = value[0] if isinstance(value, list) else value
    return place


@operator("SplitToSequence", since=11, host=(1,), folds=False)
def _split(node: Node) -> Kernel:
    """Parts of the given size or sizes; where none is given, slices, which may lose their axis."""
    axis, keep = node.attribute("axis", 0), node.attribute("keepdims", 1)

    def kernel(x: Tensor, sizes: int | list[int] | None = None) -> list[Tensor]:
        if sizes is None:
            return list(torch.split(x, 1, axis) if keep else x.unbind(axis))
        return list(torch.split(x, sizes, axis))

    return kernel


@operator("ConcatFromSequence", since=11, folds=False)
def _join(node: Node) -> Kernel:
    axis = node.attribute("axis")
    if node.attribute("new_axis", 0):
        return lambda tensors: torch.stack(list(tensors), axis)
    return lambda tensors: torch.cat(list(tensors), axis)


@operator("Optional", since=15, folds=False)
def _optional(node: Node) -> Kernel:
    return lambda value=None: value


@operator("OptionalGetElement", since=15, folds=False)
def _element(node: Node) -> Kernel:
    def kernel(value: Any) -> Any:
        if value is None:
            raise ValueError(f"{node.name} reads an optional value that is absent")
        return value

    return kernel


@operator("OptionalHasElement", since=15, result="number", folds=False)
def _has_element(node: Node) -> Kernel:
    return lambda value=None: value is not None


def mapped(run: Kernel, outputs: int) -> Kernel:
    """The kernel of SequenceMap: `run` takes an element of every sequence and gives one of each output.

    Further inputs that are tensors are the same for every element.
    """

    def kernel(first: Tensors, *others: Any) -> Any:
        rows = [run(x, *(o[i] if isinstance(o, list) else o for o in others)) for i, x in enumerate(first)]
        columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(outputs)]
        return columns[0] if outputs == 1 else tuple(columns)

    return kernel


@operator("SequenceMap", since=17, folds=False)
def _map(node: Node) -> Kernel:
    """The nodes of its body are compiled by `formats/modifiers.py`."""
    raise NotSupportedError("no body", "The file is damaged; export it again.")
