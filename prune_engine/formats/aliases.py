"""Constants seen through the nodes that only move their values, such as Transpose, Reshape, Split and Concat.

A zero in the constant is a zero in what is seen, so a weight may lie behind any of these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from prune_engine.formats.graph import NONSENSE
from prune_engine.formats.operators.dtypes import FLOATS

_MOST_PIECES = 4096
Axes = tuple[int | None, ...]
Numbers = Callable[[str], np.ndarray | None]  # the constant of that name, where there is one


@dataclass(frozen=True)
class Source:
    """A constant behind a value: `axes[i]` is the constant's own axis behind axis i of the value."""

    name: str
    axes: Axes


@dataclass(frozen=True)
class Alias:
    """A value made of the values of constants, moved but not mixed."""

    shape: tuple[int, ...]
    sources: tuple[Source, ...]


def whole(name: str, shape: tuple[int, ...]) -> Alias:
    """The alias of a constant for itself."""
    return Alias(shape, (Source(name, tuple(range(len(shape)))),))


def seen_through(
    node: NodeProto,
    given: Sequence[Alias | None],
    numbers: Numbers,
    rank_of: Callable[[str], int | None],
    mask: Callable[[str], bool],
) -> list[Alias | None]:
    """What the results of a node are made of; None for a result that is computed in another way.

    Args:
        given: the aliases of the node's inputs.
        numbers: shapes, axes and bounds by name.
        rank_of: ranks by name, as the file declares them.
        mask: whether a constant is a mask, by name.
    """
    see = _VIEWS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    nothing: list[Alias | None] = [None] * len(node.output)
    if see is None or not given:
        return nothing
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    try:
        return see(_View(node, attributes, numbers, rank_of, mask), given)
    except NONSENSE:
        return nothing  # the node does not fit its inputs; what computes it will say so


@dataclass(frozen=True)
class _View:
    node: NodeProto
    attributes: dict[str, Any]
    numbers: Numbers
    rank_of: Callable[[str], int | None]
    mask: Callable[[str], bool]

    def is_mask(self, alias: Alias) -> bool:
        """Whether a value is made of masks alone."""
        return all(self.mask(source.name) for source in alias.sources)

    def list_at(self, position: int, attribute: str = "") -> list[int] | None:
        """Integers that newer opsets give as an input and older ones as an attribute."""
        if position < len(self.node.input) and self.node.input[position]:
            values = self.numbers(self.node.input[position])
            if values is None:
                raise ValueError(f"{self.node.input[position]} is not known")
            return [int(value) for value in values.reshape(-1)]
        found = self.attributes.get(attribute)
        return None if found is None else [int(value) for value in found]


Seen = Callable[[_View, Sequence[Alias | None]], list[Alias | None]]


def _moved(see: Callable[[_View, Alias], Alias | None]) -> Seen:
    """A view of the first input alone."""

    def through(view: _View, given: Sequence[Alias | None]) -> list[Alias | None]:
        return [None if given[0] is None else see(view, given[0])]

    return through


def sequence_of(node: NodeProto, alias: Alias, numbers: Numbers) -> list[Alias] | None:
    """The pieces that a SplitToSequence cuts a value into; None where the cuts are not known, or too many."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    try:
        axis = range(len(alias.shape))[int(attributes.get("axis", 0))]
        size = alias.shape[axis]
        if len(node.input) < 2 or not node.input[1]:
            if size > _MOST_PIECES:
                return None
            if not attributes.get("keepdims", 1):
                return [taken_apart(alias, axis)] * size
            sizes = [1] * size
        else:
            cuts = numbers(node.input[1])
            if cuts is None:
                return None
            sizes = cuts.reshape(-1).tolist()
            if cuts.ndim == 0:
                each = sizes[0]
                if each < 1 or size > each * _MOST_PIECES:
                    return None
                sizes = [min(each, size - at) for at in range(0, size, each)]
    except NONSENSE:
        return None  # what computes the node will say so
    return [replace(alias, shape=(*alias.shape[:axis], own, *alias.shape[axis + 1 :])) for own in sizes]


def _cast(view: _View, alias: Alias) -> Alias | None:
    return alias if view.attributes["to"] in FLOATS else None


def _transpose(view: _View, alias: Alias) -> Alias:
    order = view.attributes.get("perm") or list(reversed(range(len(alias.shape))))
    return _arranged(alias, tuple(alias.shape[i] for i in order), lambda axes: tuple(axes[i] for i in order))


def _arranged(alias: Alias, shape: tuple[int, ...], move: Callable[[Axes], Axes]) -> Alias:
    return Alias(shape, tuple(replace(source, axes=move(source.axes)) for source in alias.sources))


def _in_shape(alias: Alias, target: tuple[int, ...]) -> Alias:
    """The same values in another shape: an axis is the same where as much lies before it and within it."""
    before = [math.prod(alias.shape[:i]) for i in range(len(alias.shape))]
    place = {(start, size): i for i, (start, size) in enumerate(zip(before, alias.shape, strict=True))}
    found = [place.get((math.prod(target[:i]), size)) for i, size in enumerate(target)]
    return _arranged(alias, target, lambda axes: tuple(None if i is None else axes[i] for i in found))


def _reshape(view: _View, alias: Alias) -> Alias | None:
    wanted = view.list_at(1, "shape")
    if wanted is None:
        return None
    sizes = [alias.shape[i] if size == 0 and i < len(alias.shape) else size for i, size in enumerate(wanted)]
    known = math.prod(size for size in sizes if size != -1)
    total = math.prod(alias.shape)
    return _in_shape(alias, tuple(total // max(known, 1) if size == -1 else size for size in sizes))


def _flatten(view: _View, alias: Alias) -> Alias:
    cut = int(view.attributes.get("axis", 1))
    return _in_shape(alias, (math.prod(alias.shape[:cut]), math.prod(alias.shape[cut:])))


def _squeeze(view: _View, alias: Alias) -> Alias:
    given, rank = view.list_at(1, "axes"), len(alias.shape)
    gone = {i for i, s in enumerate(alias.shape) if s == 1} if given is None else {i % rank for i in given}
    return _in_shape(alias, tuple(size for i, size in enumerate(alias.shape) if i not in gone))


def _unsqueeze(view: _View, alias: Alias) -> Alias:
    given = view.list_at(1, "axes") or []
    sizes = list(alias.shape)
    for axis in sorted(a % (len(alias.shape) + len(given)) for a in given):
        sizes.insert(axis, 1)
    return _in_shape(alias, tuple(sizes))


def _slice(view: _View, alias: Alias) -> Alias | None:
    starts, ends = view.list_at(1, "starts"), view.list_at(2, "ends")
    if starts is None or ends is None:
        return None
    axes = view.list_at(3, "axes") or list(range(len(starts)))
    steps = view.list_at(4) or [1] * len(starts)
    sizes = list(alias.shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        stop = None if step < 0 and end < -sizes[axis] else end
        sizes[axis] = len(range(sizes[axis])[slice(start, stop, step)])
    return replace(alias, shape=tuple(sizes))


def _split(view: _View, given: Sequence[Alias | None]) -> list[Alias | None]:
    alias, count = given[0], len(view.node.output)
    if alias is None:
        return [None] * count
    axis = int(view.attributes.get("axis", 0)) % len(alias.shape)
    size = alias.shape[axis]
    each = -(-size // count)
    sizes = view.list_at(1, "split") or [max(min(each, size - i * each), 0) for i in range(count)]
    shapes = [(*alias.shape[:axis], own, *alias.shape[axis + 1 :]) for own in sizes]
    return [replace(alias, shape=shape) for shape in shapes]


def _concat(view: _View, given: Sequence[Alias | None]) -> list[Alias | None]:
    parts = [alias for alias in given if alias is not None]
    if len(parts) < len(given):
        return [None]
    axis = int(view.attributes["axis"]) % len(parts[0].shape)
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    return [Alias(tuple(shape), tuple(dict.fromkeys(source for part in parts for source in part.sources)))]


def _gather(view: _View, alias: Alias) -> Alias | None:
    """One slice, or several in another order: the layers that are stacked in one tensor."""
    axis = int(view.attributes.get("axis", 0)) % len(alias.shape)
    index = view.numbers(view.node.input[1])
    rank = index.ndim if index is not None else view.rank_of(view.node.input[1])
    if rank == 0:
        return taken_apart(alias, axis)
    if rank == 1 and index is not None:
        return replace(alias, shape=(*alias.shape[:axis], index.size, *alias.shape[axis + 1 :]))
    return None


def taken_apart(alias: Alias, axis: int) -> Alias:
    """One slice along an axis, which is gone in it."""
    axis %= len(alias.shape)
    return _arranged(
        alias,
        (*alias.shape[:axis], *alias.shape[axis + 1 :]),
        lambda axes: (*axes[:axis], *axes[axis + 1 :]),
    )


def _scaled(view: _View, given: Sequence[Alias | None]) -> list[Alias | None]:
    """A constant times a scale of fewer values, such as one for each output channel, or times a mask."""
    a, b = given[0], given[1]
    if a is None or b is None:
        return [None]
    if view.node.op_type == "Mul" and a.shape == b.shape:
        masks = [view.is_mask(alias) for alias in (a, b)]
        return [{(False, True): a, (True, False): b}.get((masks[0], masks[1]))]
    large, small = (a, b) if math.prod(a.shape) >= math.prod(b.shape) else (b, a)
    fits = np.broadcast_shapes(large.shape, small.shape) == large.shape
    if not fits or math.prod(large.shape) == math.prod(small.shape):
        return [None]
    return [large if large is a or view.node.op_type == "Mul" else None]


_VIEWS: dict[str, Seen] = {
    "Identity": _moved(lambda view, alias: alias),
    "Neg": _moved(lambda view, alias: alias),
    "Cast": _moved(_cast),
    "CastLike": _moved(lambda view, alias: alias),  # like a float, or it could not be a parameter's place
    "Transpose": _moved(_transpose),
    "Reshape": _moved(_reshape),
    "Flatten": _moved(_flatten),
    "Squeeze": _moved(_squeeze),
    "Unsqueeze": _moved(_unsqueeze),
    "Slice": _moved(_slice),
    "Gather": _moved(_gather),
    "Split": _split,
    "Concat": _concat,
    "Mul": _scaled,
    "Div": _scaled,
}
