"""Steps that hold to the file's batch size, one way to open each.

What is opened multiplies the size that the file says by how many times its batch the input is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from prune_engine.formats.plan import Step

_TO_THE_END = 2**63 - 1


@dataclass(frozen=True)
class Seen:
    """A step with its inputs at the file's batch size and at a larger one, and its result at the file's."""

    batch: int
    step: Step
    narrow: tuple[Any, ...]
    wide: tuple[Any, ...]
    result: Any

    def widened_axis(self, position: int) -> int | None:
        """The axis along which an input grows with the batch; None where it does not."""
        a, b = self.narrow[position], self.wide[position]
        if not isinstance(a, Tensor) or a.dim() != b.dim():
            return None
        return next((i for i, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)) if m != n), None)

    def fixed_list(self, position: int) -> list[int] | None:
        """An input that is the same list of numbers at both sizes."""
        if position >= len(self.narrow) or not isinstance(self.narrow[position], list):
            return None
        return list(self.narrow[position]) if self.narrow[position] == self.wide[position] else None


def _reshape(seen: Seen) -> Step:
    """Opens the axis of the target that holds the batch."""
    target, axis = seen.fixed_list(1), seen.widened_axis(0)
    if target is None or axis is None:
        return seen.step
    source = list(seen.narrow[0].shape)
    place = _place(list(seen.result.shape), source, axis, seen.batch)
    if place is None or target[place] < 1:
        return seen.step
    reshape, size = seen.step.kernel, source[axis]

    def kernel(x: Tensor, shape: Sequence[int]) -> Any:
        sizes = list(shape)
        sizes[place] = sizes[place] * x.shape[axis] // size
        return reshape(x, sizes)

    return replace(seen.step, kernel=kernel)


def _place(target: list[int], source: list[int], axis: int, batch: int) -> int | None:
    """The axis of `target` that holds the batch, which is (a part of) `axis` of `source`."""
    begin, end = math.prod(source[:axis]), math.prod(source[: axis + 1])
    starts = [math.prod(target[:place]) for place in range(len(target))]
    own = [
        place for place, size in enumerate(target) if size == batch and begin <= starts[place] <= end // batch
    ]
    if own:
        return own[0]
    if batch == 1 and source[axis] == 1 and begin > 1 and begin in starts:
        # Between two axes, a batch of one may have been merged into either. Rows are merged into the left
        # one (L, N, D -> L * N, D); where the right one is split, its parts go with the batch: attention
        # heads (L, N * H, D / H).
        place = starts.index(begin)
        whole = {math.prod(source[axis + 1 : stop]) for stop in range(axis + 2, len(source) + 1)}
        return place - 1 if target[place] in whole else place
    for place, (start, size) in enumerate(zip(starts, target, strict=True)):
        if size % batch == 0 and (begin <= start < end or start < begin < start * size or start == begin):
            return place
    return None


def _expand(seen: Seen) -> Step:
    """Lets an axis that has the batch already keep it: a size of 1 does."""
    target, axis = seen.fixed_list(1), seen.widened_axis(0)
    if target is None or axis is None:
        return seen.step
    place = axis - seen.narrow[0].dim() + len(target)
    if place < 0 or target[place] != seen.narrow[0].shape[axis]:
        return seen.step
    sizes = [1 if i == place else size for i, size in enumerate(target)]
    expand = seen.step.kernel
    return replace(seen.step, kernel=lambda x, shape: expand(x, sizes))


def _slice(seen: Seen) -> Step:
    """A slice that takes the whole of the file's batch takes the whole of any."""
    axis, starts, ends = seen.widened_axis(0), seen.fixed_list(1), seen.fixed_list(2)
    if axis is None or starts is None or ends is None:
        return seen.step
    size, rank = seen.narrow[0].shape[axis], seen.narrow[0].dim()
    if seen.result.shape[axis] != size:
        return seen.step
    axes = seen.fixed_list(3) if len(seen.narrow) > 3 and seen.narrow[3] is not None else None
    places = [a % rank for a in axes] if axes is not None else list(range(len(starts)))
    if axis not in places or starts[places.index(axis)] != 0:
        return seen.step
    bounds = [_TO_THE_END if place == axis else end for place, end in zip(places, ends, strict=True)]
    cut = seen.step.kernel
    return replace(seen.step, kernel=lambda x, starts, ends, *more: cut(x, starts, bounds, *more))


def _resize(seen: Seen) -> Step:
    """Sizes that begin with the batch begin with that of the input."""
    sizes = seen.fixed_list(3)
    if sizes is None or seen.widened_axis(0) != 0 or len(sizes) != seen.narrow[0].dim():
        return seen.step
    resize = seen.step.kernel

    def kernel(x: Tensor, regions: Any, scales: Any, sizes: Sequence[int]) -> Any:
        return resize(x, regions, scales, [x.shape[0], *sizes[1:]])

    return replace(seen.step, kernel=kernel)


OPENED: dict[str, Callable[[Seen], Step]] = {
    "Reshape": _reshape,
    "Expand": _expand,
    "Slice": _slice,
    "Resize": _resize,
}


def stretched(seen: Seen, repeats: Callable[[int, int], bool]) -> Iterator[Step]:
    """The step with those inputs repeated that were made for the file's batch: by the first axis that works.

    Args:
        repeats: whether the value in a slot is one slice repeated along an axis.
    """
    widened = {position: seen.widened_axis(position) for position in range(len(seen.narrow))}
    leading = next(((position, axis) for position, axis in widened.items() if axis is not None), None)
    if leading is None:
        if seen.step.operator == "Expand":
            yield from _slimmed(seen, repeats)
        return
    for axis in (0, 1):
        rigid = [
            position
            for position, grows in widened.items()
            if grows is None
            and isinstance(seen.narrow[position], Tensor)
            and seen.narrow[position].dim() > axis
            and seen.narrow[position].shape[axis] == seen.batch
            and repeats(seen.step.inputs[position], axis)
        ]
        if rigid:
            yield replace(seen.step, kernel=_repeating(seen, leading, frozenset(rigid), axis))


def _slimmed(seen: Seen, repeats: Callable[[int, int], bool]) -> Iterator[Step]:
    """An Expand whose target grows with the batch takes one slice of what was made for the file's."""
    x, narrow, wide = seen.narrow[0], seen.narrow[1], seen.wide[1]
    if not isinstance(x, Tensor) or not isinstance(narrow, list) or not isinstance(wide, list):
        return
    expand = seen.step.kernel
    for place, (a, b) in enumerate(zip(narrow, wide, strict=True)):
        axis = place - len(narrow) + x.dim()
        if a != b and axis >= 0 and x.shape[axis] == seen.batch and repeats(seen.step.inputs[0], axis):
            yield replace(seen.step, kernel=lambda x, shape, axis=axis: expand(x.narrow(axis, 0, 1), shape))


def _repeating(seen: Seen, leading: tuple[int, int], rigid: frozenset[int], axis: int) -> Callable[..., Any]:
    position, grown = leading
    size, batch, kernel = seen.narrow[position].shape[grown], seen.batch, seen.step.kernel

    def repeated(*values: Any) -> Any:
        count = values[position].shape[grown] * batch // size
        return kernel(*[_stretch(v, axis, count) if i in rigid else v for i, v in enumerate(values)])

    return repeated


def _stretch(x: Tensor, axis: int, count: int) -> Tensor:
    return x.narrow(axis, 0, 1).expand(*x.shape[:axis], count, *x.shape[axis + 1 :])
