"""Inputs for a TorchScript module, whose file says neither shapes nor dtypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prune_engine.errors import ConversionError

_BATCH = 2
_VARYING = 8  # the size of an axis that may vary, beside the batch


@dataclass(frozen=True)
class Example:
    """Inputs to export with; `axes` names for each input the axes that may vary, the batch among them."""

    inputs: tuple[Tensor, ...]
    axes: tuple[dict[int, str], ...]

    @property
    def batch(self) -> int:
        """Rows in the inputs."""
        return next((int(x.shape[0]) for x in self.inputs if x.dim()), 1)


def candidates(
    module: torch.jit.ScriptModule,
    shapes: Sequence[Sequence[tuple[Sequence[int], str]]],
    input_specs: Mapping[str, Any] | None,
) -> list[Example]:
    """What `input_specs` says, or one example for each of `shapes`.

    Raises:
        ConversionError: `input_specs` names other arguments than `forward` has.
    """
    if input_specs is None:
        return [_example([(shape, dtype) for shape, dtype in one]) for one in shapes]
    names = argument_names(module)
    if set(input_specs) != set(names):
        raise ConversionError(
            f"input_specs names {', '.join(sorted(input_specs))}; the module's forward takes "
            f"{', '.join(names)}. Give a shape and a dtype for each of those."
        )
    return [_example([(input_specs[name][0], input_specs[name][1]) for name in names])]


def argument_names(module: torch.jit.ScriptModule) -> list[str]:
    """The arguments of `forward`, in order; of those with a default only where the graph reads them."""
    return [value.debugName().split(".")[0] for value in list(module.graph.inputs())[1:]]


def random_inputs(example: Example, batch: int, *, longer: bool) -> tuple[Tensor, ...]:
    """Other values for the same inputs, with another batch and perhaps twice the size where it may vary."""
    inputs = []
    for x, axes in zip(example.inputs, example.axes, strict=True):
        shape = list(x.shape)
        for axis in axes:
            if axis == 0:
                shape[0] = batch
            elif longer:
                shape[axis] *= 2
        inputs.append(_values(shape, str(x.dtype).removeprefix("torch."), 1))
    return tuple(inputs)


def _example(specs: Sequence[tuple[Sequence[int | str | None], str]]) -> Example:
    inputs, axes = [], []
    for shape, dtype in specs:
        sizes, varying = [], {0: "batch"} if shape else {}
        for axis, size in enumerate(shape):
            if isinstance(size, int):
                sizes.append(size)
                continue
            sizes.append(_BATCH if axis == 0 else _VARYING)
            if axis:
                varying[axis] = size or f"size_{axis}"
        inputs.append(_values(sizes, dtype, 0))
        axes.append(varying)
    return Example(tuple(inputs), tuple(axes))


def _values(shape: Sequence[int], dtype: str, seed: int) -> Tensor:
    """Normal numbers, or zeros and ones for integers, of which every table has both."""
    generator = np.random.default_rng(seed)
    floating = dtype.startswith(("float", "bfloat"))
    values = generator.standard_normal(shape) if floating else generator.integers(0, 2, shape)
    return torch.from_numpy(np.asarray(values)).to(getattr(torch, dtype))
