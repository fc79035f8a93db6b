"""What an imported module runs: steps over numbered slots, decided once at import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from prune_engine.formats.operators import Kernel
from prune_engine.formats.quantised import Quantisation

NOTHING, TRAINING, DEVICE = 0, 1, 2  # slots that every plan has
FIRST_FREE = 3


@dataclass(frozen=True)
class Step:
    """One call: `kernel(*[slots[i] for i in inputs])` goes to `output`, a slot or one slot per result.

    `dead` are the slots that nobody reads afterwards. `operator` and `node` say what it was in the file.
    """

    kernel: Kernel
    inputs: tuple[int, ...]
    output: int | tuple[int, ...]
    dead: tuple[int, ...]
    operator: str
    node: str


def run_step(step: Step, slots: list[Any]) -> None:
    """Computes one step in place."""
    result = step.kernel(*[slots[i] for i in step.inputs])
    if type(step.output) is int:
        slots[step.output] = result
    else:
        for slot, value in zip(step.output, result, strict=False):  # type: ignore[arg-type]
            slots[slot] = value


def run_steps(steps: Sequence[Step], slots: list[Any]) -> None:
    """Computes the steps in place and lets go of what nobody reads any more.

    An error gets a note that says in which node it came up.
    """
    step: Step | None = None
    try:
        for step in steps:
            run_step(step, slots)
            for slot in step.dead:
                slots[slot] = None
    except Exception as error:
        if step is not None:
            error.add_note(f"in the node {step.node}")
        raise


@dataclass(frozen=True)
class Plan:
    """The steps and what fills the slots beforehand.

    Args:
        template: initial slots; numbers of the shape arithmetic are already in it.
        inputs: slot and compute dtype of each graph input.
        tensors: slot -> ONNX name of the parameter or buffer it holds.
        parameters: ONNX name -> values that are trained.
        buffers: name -> tensors that are not; running statistics are under their ONNX names.
        quantised: ONNX name -> how a parameter that is trained as float is kept as integers.
    """

    steps: tuple[Step, ...]
    template: tuple[Any, ...]
    inputs: tuple[tuple[int, torch.dtype], ...]
    outputs: tuple[int, ...]
    tensors: tuple[tuple[int, str], ...]
    parameters: Mapping[str, np.ndarray]
    buffers: Mapping[str, torch.Tensor]
    quantised: Mapping[str, Quantisation] = field(default_factory=dict)


def with_lifetimes(steps: Sequence[Step], outputs: tuple[int, ...]) -> tuple[Step, ...]:
    """Notes at each step which computed slots nobody reads any more."""
    computed: set[int] = set()
    for step in steps:
        computed.update([step.output] if isinstance(step.output, int) else step.output)
    keep, planned = set(outputs), []
    for step in reversed(steps):
        made = {step.output} if isinstance(step.output, int) else set(step.output)
        dead = ((set(step.inputs) | made) & computed) - keep
        keep |= set(step.inputs)
        planned.append(replace(step, dead=tuple(sorted(dead))))
    return tuple(reversed(planned))
