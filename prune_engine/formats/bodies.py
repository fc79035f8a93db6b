"""The bodies of If, Loop and Scan at run time: routines that their kernels call as often as it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from prune_engine.formats.plan import Step, run_steps, with_lifetimes


@dataclass(frozen=True)
class Routine:
    """Steps over slots of their own.

    Args:
        template: initial slots.
        arguments: where each call puts its arguments.
        outer: slots of the enclosing plan that the routine reads; their values are given to each call.
        captured: where it puts these.
        outputs: where the results lie.
    """

    steps: tuple[Step, ...]
    template: tuple[Any, ...]
    arguments: tuple[int, ...]
    outer: tuple[int, ...]
    captured: tuple[int, ...]
    outputs: tuple[int, ...]

    def __call__(self, arguments: Sequence[Any], captured: Sequence[Any]) -> list[Any]:
        """One run of the body."""
        slots = list(self.template)
        for slot, value in zip(self.captured, captured, strict=True):
            slots[slot] = value
        for slot, value in zip(self.arguments, arguments, strict=True):
            slots[slot] = value
        run_steps(self.steps, slots)
        return [slots[slot] for slot in self.outputs]


def routine(
    steps: Sequence[Step], template: Sequence[Any], arguments: Sequence[int], outputs: Sequence[int]
) -> Routine:
    """The steps of a body that was compiled over the slots of the whole plan, over slots of its own."""
    own: dict[int, int] = {}

    def place(slot: int) -> int:
        return own.setdefault(slot, len(own))

    made: set[int] = set(arguments)
    outer: list[int] = []

    def read(slot: int) -> int:
        if slot not in own and slot not in made and template[slot] is None:
            outer.append(slot)
        return place(slot)

    places = tuple(place(slot) for slot in arguments)
    moved = []
    for step in steps:
        inputs = tuple(read(slot) for slot in step.inputs)
        results = (step.output,) if isinstance(step.output, int) else step.output
        made.update(results)
        output = place(step.output) if isinstance(step.output, int) else tuple(map(place, step.output))
        moved.append(replace(step, inputs=inputs, output=output, dead=()))
    found = tuple(read(slot) for slot in outputs)
    return Routine(
        with_lifetimes(moved, found),
        tuple(template[slot] for slot in own),
        places,
        tuple(outer),
        tuple(own[slot] for slot in outer),
        found,
    )


def choice(then: Routine, otherwise: Routine) -> Callable[..., Any]:
    """The kernel of an If: takes the condition and what the two branches capture."""
    border = len(then.outer)

    def kernel(condition: Any, *captured: Any) -> Any:
        results = then((), captured[:border]) if is_true(condition) else otherwise((), captured[border:])
        return results[0] if len(results) == 1 else tuple(results)

    return kernel


def loop(body: Routine, states: int, empty: Sequence[Callable[[torch.device], Tensor]]) -> Callable[..., Any]:
    """The kernel of a Loop: takes the device, the trip count, the condition, `states` values, the captured.

    The body takes the number of the iteration, the condition and the states; it gives the condition, the
    states and one slice of every scan output. `empty` makes the scan outputs of a loop that runs not once.
    """

    def kernel(device: torch.device, count: Any, condition: Any, *values: Any) -> Any:
        carried, captured = list(values[:states]), values[states:]
        limit = None if count is None else _number(count)
        going = condition is None or is_true(condition)
        slices: list[list[Tensor]] = [[] for _ in empty]
        iteration = 0
        while going and (limit is None or iteration < limit):
            results = body((iteration, going, *carried), captured)
            going = is_true(results[0])
            carried = results[1 : 1 + states]
            for collected, value in zip(slices, results[1 + states :], strict=True):
                collected.append(value)
            iteration += 1
        stacked = [
            torch.stack(collected) if collected else make(device)
            for collected, make in zip(slices, empty, strict=True)
        ]
        results = [*carried, *stacked]
        return results[0] if len(results) == 1 else tuple(results)

    return kernel


@dataclass(frozen=True)
class Axes:
    """The axes along which a Scan reads its inputs or stacks its outputs, and which of them run backwards."""

    axes: tuple[int, ...]
    backwards: tuple[bool, ...]


def scan(body: Routine, states: int, inputs: Axes, outputs: Axes) -> Callable[..., Any]:
    """The kernel of a Scan: takes `states` values, the sequences, the captured values."""
    count = len(inputs.axes)

    def kernel(*values: Any) -> Any:
        carried = list(values[:states])
        sequences, captured = values[states : states + count], values[states + count :]
        rows = []
        for sequence, axis, backwards in zip(sequences, inputs.axes, inputs.backwards, strict=True):
            slices = sequence.unbind(axis)
            rows.append(slices[::-1] if backwards else slices)
        collected: list[list[Tensor]] = [[] for _ in outputs.axes]
        for row in zip(*rows, strict=True):
            results = body((*carried, *row), captured)
            carried = results[:states]
            for slices, value in zip(collected, results[states:], strict=True):
                slices.append(value)
        stacked = [
            torch.stack(slices[::-1] if backwards else slices, axis)
            for slices, axis, backwards in zip(collected, outputs.axes, outputs.backwards, strict=True)
        ]
        results = [*carried, *stacked]
        return results[0] if len(results) == 1 else tuple(results)

    return kernel


def batched_scan(body: Routine, states: int, inputs: Axes, outputs: Axes) -> Callable[..., Any]:
    """The kernel of a Scan of opset 8: takes the lengths too, and runs every row of the batch by itself.

    What lies past the end of a row is zero in the stacked outputs.
    """
    single = scan(body, states, inputs, outputs)
    count = len(inputs.axes)

    def kernel(lengths: Any, *values: Any) -> Any:
        given, captured = values[: states + count], values[states + count :]
        longest = given[states].shape[1]
        rows = []
        for row in range(given[0].shape[0]):
            length = longest if lengths is None else int(lengths[row])
            own = [value[row] for value in given[:states]]
            own += [value[row][:length] for value in given[states:]]
            results = single(*own, *captured)
            results = list(results) if isinstance(results, tuple) else [results]
            for index in range(states, len(results)):
                results[index] = _padded(results[index], longest)
            rows.append(results)
        stacked = [torch.stack(list(column)) for column in zip(*rows, strict=True)]
        return stacked[0] if len(stacked) == 1 else tuple(stacked)

    return kernel


def _padded(x: Tensor, length: int) -> Tensor:
    if x.shape[0] == length:
        return x
    return torch.cat([x, x.new_zeros(length - x.shape[0], *x.shape[1:])])


def is_true(condition: Any) -> bool:
    """A condition as the host has it: a number, or a list around one."""
    return bool(_number(condition))


def _number(value: Any) -> Any:
    while isinstance(value, list):
        value = value[0]
    return value


def empty_stack(shape: Sequence[int | None] | None, dtype: torch.dtype) -> Callable[[torch.device], Tensor]:
    """Makes the scan output of a loop without iterations: sizes that the file leaves open are 0."""
    sizes = [0, *(size or 0 for size in shape or ())]
    return lambda device: torch.zeros(sizes, dtype=dtype, device=device)
