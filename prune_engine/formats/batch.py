"""Makes the batch size of a plan free where the exporter wrote it into the graph.

`torch.onnx.export` without dynamic axes turns `x.view(x.size(0), -1)` into a Reshape to [1, -1]. Training
wants other batch sizes. The plan is walked twice on tensors without values, once at the file's batch size and
once at a larger one; where the two show that a step holds to the file's size, it is opened. The file itself
is not touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from prune_engine.errors import ModelError
from prune_engine.formats.batch_steps import OPENED, Seen, stretched
from prune_engine.formats.graph import NONSENSE
from prune_engine.formats.plan import DEVICE, TRAINING, Plan, Step

_FACTOR = 3
_UNTOLD = 32  # stands for a size that the file leaves open


def free_batch(plan: Plan, shapes: Sequence[Sequence[int | None]]) -> Plan:
    """The plan with open batch axes, as far as they can be found; `shapes` are those of the graph's inputs.

    The batch is the first size of the first input; inputs that begin with another size have none. A plan
    whose batch is open already comes back as it is, and so does what depends on values.
    """
    batch = next((shape[0] for shape in shapes if shape), None)
    if not batch:
        return plan
    untold = _UNTOLD + (batch == _UNTOLD)
    sizes = [[untold if size is None else size for size in shape] for shape in shapes]
    return _Walk(plan, sizes, batch).run()


class _Unknown:
    """Stands in a slot for what could not be computed without values."""


_UNKNOWN = _Unknown()


class _Walk:
    def __init__(self, plan: Plan, shapes: list[list[int]], batch: int) -> None:
        self.plan, self.batch = plan, batch
        wide = [
            [size[0] * _FACTOR, *size[1:]] if size and size[0] == batch else list(size) for size in shapes
        ]
        self.narrow, self.wide = self._slots(shapes), self._slots(wide)
        self.names = dict(plan.tensors)
        self.widened: dict[int, set[int]] = {}  # slots that were expanded to the batch, and their axes

    def _slots(self, shapes: list[list[int]]) -> list[Any]:
        slots, device = list(self.plan.template), torch.device("meta")
        slots[TRAINING], slots[DEVICE] = False, device
        for (slot, dtype), shape in zip(self.plan.inputs, shapes, strict=True):
            slots[slot] = torch.empty(shape, dtype=dtype, device=device)
        for slot, name in self.plan.tensors:
            if name in self.plan.parameters:
                slots[slot] = torch.empty(self.plan.parameters[name].shape, device=device)
            else:
                slots[slot] = torch.empty_like(self.plan.buffers[name], device=device)
        return slots

    def run(self) -> Plan:
        return replace(self.plan, steps=tuple(self._walked(step) for step in self.plan.steps))

    def _walked(self, step: Step) -> Step:
        """The step as it is or opened; its results at both sizes go into the slots."""
        narrow = [self.narrow[slot] for slot in step.inputs]
        wide = [self.wide[slot] for slot in step.inputs]
        known = not any(isinstance(value, _Unknown) for value in (*narrow, *wide))
        at_file = _computed(step, narrow) if known else _UNKNOWN
        if isinstance(at_file, _Unknown):
            self._keep(step, _UNKNOWN, _UNKNOWN)
            return step
        seen = Seen(self.batch, step, tuple(narrow), tuple(wide), at_file)
        opened = OPENED[step.operator](seen) if step.operator in OPENED else step
        at_large = _computed(opened, wide)
        if isinstance(at_large, _Unknown):
            for candidate in stretched(seen, self._repeats):
                at_large = _computed(candidate, wide)
                if not isinstance(at_large, _Unknown):
                    opened = candidate
                    break
        if step.operator == "Expand":
            self._widened(step, narrow[0], at_file)
        self._keep(step, at_file, at_large)
        return opened

    def _keep(self, step: Step, at_file: Any, at_large: Any) -> None:
        for slots, result in ((self.narrow, at_file), (self.wide, at_large)):
            if isinstance(step.output, int):
                slots[step.output] = result
            else:
                for place, slot in enumerate(step.output):
                    known = not isinstance(result, _Unknown) and place < len(result)
                    slots[slot] = result[place] if known else _UNKNOWN

    def _widened(self, step: Step, given: Tensor, result: Tensor) -> None:
        own = (1,) * (result.dim() - given.dim()) + tuple(given.shape)
        axes = {axis for axis, size in enumerate(own) if size == 1 and result.shape[axis] == self.batch}
        if isinstance(step.output, int):
            self.widened[step.output] = axes

    def _repeats(self, slot: int, axis: int) -> bool:
        """Whether a value is one slice repeated along an axis for the file's batch, such as a class token."""
        if self.batch == 1 or axis in self.widened.get(slot, ()):
            return True
        values = self.plan.buffers.get(self.names.get(slot, ""))
        return values is not None and bool((values == values.narrow(axis, 0, 1)).all())


def _computed(step: Step, inputs: Sequence[Any]) -> Any:
    try:
        return step.kernel(*inputs)
    except (*NONSENSE, ModelError):
        return _UNKNOWN  # it needs values, or holds to the batch in a way that is not known here
