"""Convolutions computed with a BatchNorm that the file does not have, as long as they are trained.

Exporters fold BatchNorm into the convolution before it. What is left computes the same, but does not stand to
be trained: a step that a normalised network hardly notices destroys it. So the fold is undone for the
training: `y = conv(x, w) + b` becomes `y = gain * (conv(x, w) - mean) / sqrt(variance + epsilon) + shift`,
with a gain and a shift at which the function is the same (Ioffe & Szegedy 2015, arXiv 1502.03167). Afterwards
it is folded again: into the weight a factor per output channel, so zeros stay zeros, and into the bias.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators import Kernel
from prune_engine.formats.operators.alignment import aligned
from prune_engine.formats.plan import TRAINING, Plan, with_lifetimes

EPSILON = 1e-5
MOMENTUM = 0.1
SMALLEST = 1e-7
"""Magnitude that a weight other than zero keeps when it is folded; float16 can still hold it."""

_NORMALISING = frozenset(
    f"{kind}Normalization" for kind in ("Batch", "Instance", "Layer", "Group", "RMS", "SkipLayer")
) | {"GroupNorm", "SkipGroupNorm", "LRN"}


@dataclass(frozen=True)
class Place:
    """A convolution with a weight and a bias of its own.

    Attributes:
        step: its place in the plan.
        weight: ONNX name of the weight, output channels first.
        bias: ONNX name of the bias, which is the shift while it is computed with a BatchNorm.
    """

    step: int
    weight: str
    bias: str

    @property
    def gain(self) -> str:
        """Name of the scale of the channels, a parameter."""
        return f"{self.weight}/gain"

    @property
    def mean(self) -> str:
        """Name of the running mean, a buffer."""
        return f"{self.weight}/mean"

    @property
    def variance(self) -> str:
        """Name of the running variance, a buffer."""
        return f"{self.weight}/variance"


class Moments:
    """Mean and variance of each channel over everything that was added; float64."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Tensor | None = None
        self._squares: Tensor | None = None

    def add(self, y: Tensor) -> None:
        """Note a batch, channels on axis 1."""
        y = y.detach().double().transpose(0, 1).flatten(1)
        self._count += y.shape[1]
        added = y.sum(1), y.square().sum(1)
        self._sum = added[0] if self._sum is None else self._sum + added[0]
        self._squares = added[1] if self._squares is None else self._squares + added[1]

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and variance, float32."""
        assert self._sum is not None  # noqa: S101 - a batch was added
        assert self._squares is not None  # noqa: S101 - set in training
        mean = self._sum / self._count
        variance = (self._squares / self._count - mean.square()).clamp_min(0.0)
        return mean.float(), variance.float()


class Renormalised:
    """The kernel of such a convolution; notes `moments` of what it normalises where it is given some."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.moments: Moments | None = None

    def __call__(
        self,
        training: bool,
        x: Tensor,
        weight: Tensor,
        shift: Tensor,
        gain: Tensor,
        mean: Tensor,
        variance: Tensor,
    ) -> Tensor:
        """The normalised convolution; in training with the statistics of the batch."""
        y: Tensor = self._kernel(x, weight)
        if self.moments is not None:
            self.moments.add(y)
        training = training and y.numel() > y.shape[1]  # one value a channel has no variance
        gain, shift = aligned(gain), aligned(shift)
        return functional.batch_norm(y, mean, variance, gain, shift, training, MOMENTUM, EPSILON)


def places(plan: Plan, prunable: Collection[str]) -> tuple[Place, ...]:
    """The convolutions of a plan that can be computed with a BatchNorm; none where anything normalises.

    Weight and bias are constants that nothing else uses, and the result is not one of the graph's. What is in
    bodies of If, Loop and Scan, and models with integer weights, are left alone.

    Args:
        plan: of the whole graph.
        prunable: ONNX names of the prunable weights.
    """
    if plan.quantised or any(step.operator in _NORMALISING for step in plan.steps):
        return ()
    names = dict(plan.tensors)
    uses = Counter(slot for step in plan.steps for slot in step.inputs)
    found = []
    for number, step in enumerate(plan.steps):
        if step.operator != "Conv" or len(step.inputs) != 3 or step.output in plan.outputs:
            continue
        weight, bias = (names.get(slot, "") for slot in step.inputs[1:])
        once = all(uses[slot] == 1 for slot in step.inputs[1:])
        if once and weight in prunable and bias in plan.parameters:
            found.append(Place(number, weight, bias))
    return tuple(found)


def with_batch_norm(plan: Plan, found: Sequence[Place]) -> tuple[Plan, tuple[Renormalised, ...]]:
    """The plan with a BatchNorm at each place that does nothing yet, and the kernels that compute them."""
    steps, template, tensors = list(plan.steps), list(plan.template), list(plan.tensors)
    parameters, buffers = dict(plan.parameters), dict(plan.buffers)
    kernels = []
    for place in found:
        step, channels = steps[place.step], len(plan.parameters[place.weight])
        slots = []
        for name in (place.gain, place.mean, place.variance):
            slots.append(len(template))
            template.append(None)
            tensors.append((slots[-1], name))
        parameters[place.gain] = np.ones(channels, np.float32)
        buffers[place.mean] = torch.zeros(channels)
        buffers[place.variance] = torch.full((channels,), 1.0 - EPSILON)
        kernels.append(Renormalised(step.kernel))
        steps[place.step] = replace(step, kernel=kernels[-1], inputs=(TRAINING, *step.inputs, *slots))
    changed = replace(
        plan,
        steps=with_lifetimes(steps, plan.outputs),
        template=tuple(template),
        tensors=tuple(tensors),
        parameters=parameters,
        buffers=buffers,
    )
    return changed, tuple(kernels)


def folded(
    weight: Tensor, shift: Tensor, gain: Tensor, mean: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that computes the same by itself.

    What is zero stays zero, and what is not zero does not become so.

    Args:
        weight: output channels first; the others have one entry a channel.
    """
    factor = gain.double() / (variance.double() + EPSILON).sqrt()
    bias = shift.double() - mean.double() * factor
    scaled = (weight.double() * factor.view(-1, *[1] * (weight.dim() - 1))).to(weight.dtype)
    smallest = torch.copysign(torch.full_like(weight, SMALLEST), weight)
    lost = (weight != 0.0) & (scaled.abs() < SMALLEST)
    return torch.where(lost, smallest, scaled), bias.to(shift.dtype)
