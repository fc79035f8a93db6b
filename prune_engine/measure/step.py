"""What a forward and backward pass costs: seconds, and the activations that the backward pass needs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

ENOUGH = 0.4
"""Seconds that the passes with few rows may take together, and those with more rows again."""

MOST_PASSES = 8

FEW, MORE = 2, 16
"""Rows of the two batches; two, as BatchNorm needs more than one value a channel."""


class StepError(Exception):
    """The pass cannot be made; the text says why."""


@dataclass(frozen=True)
class StepCost:
    """Seconds of a pass are `fixed_seconds + rows * seconds_per_row`, from the batches that were measured.

    Args:
        rows: of the largest batch that was measured.
        seconds: that it took.
        activation_bytes: a row, of what is remembered for the backward pass beside the weights.
    """

    rows: int
    seconds: float
    seconds_per_row: float
    fixed_seconds: float
    activation_bytes: int

    def of(self, rows: int) -> float:
        """Seconds that a batch of `rows` takes."""
        return self.fixed_seconds + rows * self.seconds_per_row


def measure_step(
    module: nn.Module, batch: Callable[[int], tuple[Tensor, ...]], fixed_batch: int | None = None
) -> StepCost:
    """Run forward and backward passes in training mode; gradients and running statistics are left changed.

    Args:
        module: gives a tuple of outputs.
        batch: inputs of so many rows.
        fixed_batch: rows that the model demands.

    Raises:
        StepError: the module does not run, or gives nothing that has a gradient.
    """
    few = fixed_batch or FEW
    remembered, seconds = _pass(module, batch(few), remember=True)
    seconds = min(seconds, _quickest(module, batch(few), ENOUGH - seconds))
    rows, slope, fixed = few, seconds / few, 0.0
    if fixed_batch is None and seconds * MORE / few < 2 * ENOUGH:
        longer = _quickest(module, batch(MORE), ENOUGH)
        slope = max((longer - seconds) / (MORE - few), 0.05 * longer / MORE)
        fixed = max(longer - slope * MORE, 0.0)
        rows, seconds = MORE, longer
    return StepCost(rows, seconds, slope, fixed, remembered // few)


def _quickest(module: nn.Module, inputs: Sequence[Tensor], budget: float) -> float:
    """The shortest of up to eight passes that fit into `budget` seconds: on a busy machine the truest."""
    seconds = math.inf
    for _ in range(MOST_PASSES):
        if budget <= 0:
            break
        taken = _pass(module, inputs)[1]
        seconds, budget = min(seconds, taken), budget - taken
    return seconds


def _pass(module: nn.Module, inputs: Sequence[Tensor], remember: bool = False) -> tuple[int, float]:
    """Bytes remembered for the backward pass (0 unless asked for), and seconds."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    module.train()
    module.zero_grad(set_to_none=True)
    started = time.perf_counter()
    try:
        if remember:
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                loss = _loss(module(*inputs))
        else:
            loss = _loss(module(*inputs))
        loss.backward()  # type: ignore[no-untyped-call]
    except Exception as error:
        notes = f" {error.__notes__[-1]}" if getattr(error, "__notes__", None) else ""
        raise StepError(f"{' '.join(str(error).split())[:200]}{notes}") from error
    return sum(seen.values()), time.perf_counter() - started


def _loss(outputs: Sequence[Tensor]) -> Tensor:
    parts = [output.float().mean() for output in outputs if output.requires_grad]
    if not parts:
        raise StepError("no output has a gradient")
    return torch.stack(parts).sum()
