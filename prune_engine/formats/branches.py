"""`If` nodes: both branches become steps of their own, and the condition picks one at run time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from prune_engine.formats.plan import Step, run_step


@dataclass(frozen=True)
class Branch:
    """The steps of one branch over the slots of the whole plan, and the slots of its results."""

    steps: tuple[Step, ...]
    outputs: tuple[int, ...]

    def needs(self, template: Sequence[Any]) -> set[int]:
        """The slots that the branch reads and neither computes nor finds in the template."""
        made: set[int] = set()
        read = set(self.outputs)
        for step in self.steps:
            read |= set(step.inputs)
            made |= {step.output} if isinstance(step.output, int) else set(step.output)
        return {slot for slot in read - made if template[slot] is None}


def choice(
    then: Branch, otherwise: Branch, template: list[Any], captured: tuple[int, ...]
) -> Callable[..., Any]:
    """The kernel of an If: takes the condition and the values of the slots `captured`."""
    single = len(then.outputs) == 1

    def kernel(condition: bool | list[bool], *values: Any) -> Any:
        taken = condition[0] if isinstance(condition, list) else condition
        branch = then if taken else otherwise
        slots = list(template)
        for slot, value in zip(captured, values, strict=True):
            slots[slot] = value
        for step in branch.steps:
            run_step(step, slots)
        return slots[branch.outputs[0]] if single else tuple(slots[slot] for slot in branch.outputs)

    return kernel
