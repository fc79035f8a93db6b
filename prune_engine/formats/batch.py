"""Makes the batch size of a plan free where the exporter wrote it into the graph.

`torch.onnx.export` without dynamic axes turns `x.view(x.size(0), -1)` into a Reshape to [1, -1]. Training
wants other batch sizes. The plan is walked twice on tensors without values, once at the file's batch size and
once at a larger one; where a Reshape to a fixed shape sees more elements the second time, the axis that holds
the batch is found and left open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from prune_engine.errors import ModelError
from prune_engine.formats.plan import DEVICE, TRAINING, Plan, Step, run_step

_FACTOR = 3


def free_batch(plan: Plan, shapes: Sequence[Sequence[int | None]]) -> Plan:
    """The plan with open batch axes, as far as they can be found; `shapes` are those of the graph's inputs.

    A plan whose inputs have no fixed sizes, or that computes shapes from values, comes back as it is.
    """
    if not shapes or any(not shape or None in shape for shape in shapes):
        return plan
    sizes = [[size for size in shape if size is not None] for shape in shapes]
    if len({shape[0] for shape in sizes}) != 1 or any(0 in shape for shape in sizes):
        return plan
    return _Walk(plan, sizes).run()


class _Walk:
    def __init__(self, plan: Plan, shapes: list[list[int]]) -> None:
        self.plan = plan
        self.batch = shapes[0][0]
        self.template = list(plan.template)
        wide = [[size[0] * _FACTOR, *size[1:]] for size in shapes]
        self.narrow, self.wide = self._slots(shapes), self._slots(wide)
        # Constants that are one row repeated for the file's batch size, such as a class token.
        self.repeated = {slot for slot, name in plan.tensors if self._is_repeated(plan.buffers.get(name))}

    def _slots(self, shapes: list[list[int]]) -> list[Any]:
        slots, device = list(self.plan.template), torch.device("meta")
        slots[TRAINING], slots[DEVICE] = False, device
        for (slot, dtype), shape in zip(self.plan.inputs, shapes, strict=True):
            slots[slot] = torch.empty(shape, dtype=dtype, device=device)
        for slot, name in self.plan.tensors:
            if name in self.plan.parameters:
                slots[slot] = torch.empty(self.plan.parameters[name].shape, device=device)
            else:
                slots[slot] = self.plan.buffers[name].to(device)
        return slots

    def run(self) -> Plan:
        steps = list(self.plan.steps)
        for index, step in enumerate(steps):
            if step.operator == "Reshape" and isinstance(self.template[step.inputs[1]], list):
                step = self._reshape(step)
            elif step.operator == "Concat":
                step = self._concat(step)
            steps[index] = step
            try:
                run_step(step, self.narrow)
                run_step(step, self.wide)
            except (RuntimeError, ValueError, LookupError, TypeError, ArithmeticError, ModelError):
                break  # it needs values, or the batch is fixed in a way that is not known here
        return replace(self.plan, steps=tuple(steps), template=tuple(self.template))

    def _reshape(self, step: Step) -> Step:
        """Opens the axis of the target that holds the batch."""
        narrow, wide = (slots[step.inputs[0]] for slots in (self.narrow, self.wide))
        if narrow.numel() == wide.numel() or narrow.dim() != wide.dim():
            return step
        axis = next(i for i, (a, b) in enumerate(zip(narrow.shape, wide.shape, strict=True)) if a != b)
        target = _resolved(self.template[step.inputs[1]], narrow)
        place = self._place(target, list(narrow.shape), axis)
        if place is None:
            return step
        target[place] = -1
        for slots in (self.template, self.narrow, self.wide):
            slots.append(target)
        return replace(step, inputs=(step.inputs[0], len(self.template) - 1))

    def _place(self, target: list[int], source: list[int], axis: int) -> int | None:
        """The axis of `target` that holds the batch, which is (a part of) `axis` of `source`."""
        begin, end = math.prod(source[:axis]), math.prod(source[: axis + 1])
        starts = [math.prod(target[:place]) for place in range(len(target))]
        own = [
            p
            for p, size in enumerate(target)
            if size == self.batch and begin <= starts[p] <= end // self.batch
        ]
        if own:
            return own[0]
        if self.batch == 1 and source[axis] == 1 and begin > 1 and begin in starts:
            # Between two axes, a batch of one may have been merged into either. Rows are merged into the left
            # one (L, N, D -> L * N, D); where the right one is split, its parts go with the batch: attention
            # heads (L, N * H, D / H).
            place = starts.index(begin)
            whole = {math.prod(source[axis + 1 : stop]) for stop in range(axis + 2, len(source) + 1)}
            return place - 1 if target[place] in whole else place
        for place, (start, size) in enumerate(zip(starts, target, strict=True)):
            if size % self.batch == 0 and (
                begin <= start < end or start < begin < start * size or start == begin
            ):
                return place
        return None

    def _is_repeated(self, values: Tensor | None) -> bool:
        if values is None or values.dim() == 0 or values.shape[0] != self.batch:
            return False
        return bool((values == values[:1]).all())

    def _concat(self, step: Step) -> Step:
        """Repeats a part that was made for the file's batch size as often as the batch needs it."""
        parts = [self.wide[slot] for slot in step.inputs]
        if not all(isinstance(part, Tensor) and part.dim() == parts[0].dim() > 0 for part in parts):
            return step
        rigid = [part.shape[0] == self.batch for part in parts]
        if {part.shape[0] for part in parts} != {self.batch, self.batch * _FACTOR}:
            return step
        if self.batch != 1 and any(
            r and slot not in self.repeated for r, slot in zip(rigid, step.inputs, strict=True)
        ):
            return step
        join, follows = step.kernel, rigid.index(False)

        def kernel(*values: Tensor) -> Tensor:
            batch = values[follows].shape[0]
            whole = [
                v[:1].expand(batch, *v.shape[1:]) if r else v for v, r in zip(values, rigid, strict=True)
            ]
            joined: Tensor = join(*whole)
            return joined

        try:
            fits = kernel(*parts).shape[0] == self.batch * _FACTOR
        except RuntimeError:
            fits = False
        return replace(step, kernel=kernel) if fits else step


def _resolved(shape: Sequence[int], x: Tensor) -> list[int]:
    """The shape with its 0 and -1 replaced by the sizes that they stand for."""
    sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
    known = math.prod(size for size in sizes if size != -1)
    return [x.numel() // known if size == -1 else size for size in sizes]
