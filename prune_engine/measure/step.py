"""What a forward and backward pass costs: seconds, and the activations that the backward pass needs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

ENOUGH = 0.4
"""Seconds that the passes with few rows may take together, and those with more rows again."""

MOST_PASSES = 8

FEW, MORE = 2, 16
"""Rows of the two batches; two, as BatchNorm needs more than one value a channel."""

AT_WORK = 0.8
"""Share of the time that torch's threads work while they have processors of their own and enough to do."""

Clock = Callable[[], float]
Batch = Callable[[int], tuple[Tensor, ...]]


class StepError(Exception):
    """The pass cannot be made; the text says why."""


@dataclass(frozen=True)
class StepCost:
    """Seconds of a pass are `fixed_seconds + rows * seconds_per_row`, from the batches that were measured.

    Args:
        rows: of the largest batch that was measured.
        seconds: that it took.
        activation_bytes: a row, of what is remembered for the backward pass beside the weights.
        threads: that it was measured on.
    """

    rows: int
    seconds: float
    seconds_per_row: float
    fixed_seconds: float
    activation_bytes: int
    threads: int

    def of(self, rows: int) -> float:
        """Seconds that a batch of `rows` takes."""
        return self.fixed_seconds + rows * self.seconds_per_row


def measure_step(module: nn.Module, batch: Batch, fixed_batch: int | None = None) -> StepCost:
    """Run forward and backward passes in training mode; gradients and running statistics are left changed.

    Threads that share their processors with another program wait for each other after every operation, and
    a pass takes a hundred times as long. So where they do not work most of the time, one thread is measured
    as well, by the processor's time, and the cheaper of both is the answer.

    Args:
        module: gives a tuple of outputs.
        batch: inputs of so many rows.
        fixed_batch: rows that the model demands.

    Raises:
        StepError: the module does not run, or gives nothing that has a gradient.
    """
    few = fixed_batch or FEW
    started, worked = time.perf_counter(), time.process_time()
    remembered, seconds = _pass(module, batch(few), time.perf_counter, remember=True)
    if seconds < ENOUGH:
        seconds = min(seconds, _quickest(module, batch(few), time.perf_counter))
    costs = [_line(module, batch, fixed_batch, seconds, remembered // few, time.perf_counter)]
    taken, worked = time.perf_counter() - started, time.process_time() - worked
    if worked < AT_WORK * taken * torch.get_num_threads():
        with one_thread():
            seconds = _quickest(module, batch(few), time.thread_time)
            costs.append(_line(module, batch, fixed_batch, seconds, remembered // few, time.thread_time))
    return min(costs, key=lambda cost: cost.of(fixed_batch or MORE))


def _line(
    module: nn.Module, batch: Batch, fixed_batch: int | None, seconds: float, remembered: int, clock: Clock
) -> StepCost:
    """The cost by a clock, on as many threads as torch has now; one with few rows took `seconds`."""
    rows = fixed_batch or FEW
    slope, fixed = seconds / rows, 0.0
    if fixed_batch is None and seconds * MORE / rows < 2 * ENOUGH:
        longer = _quickest(module, batch(MORE), clock)
        slope = max((longer - seconds) / (MORE - rows), 0.05 * longer / MORE)
        fixed = max(longer - slope * MORE, 0.0)
        rows, seconds = MORE, longer
    return StepCost(rows, seconds, slope, fixed, remembered, torch.get_num_threads())


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _quickest(module: nn.Module, inputs: Sequence[Tensor], clock: Clock) -> float:
    """The shortest of up to eight passes: on a busy machine the truest."""
    seconds, begun = math.inf, time.perf_counter()
    for _ in range(MOST_PASSES):
        seconds = min(seconds, _pass(module, inputs, clock)[1])
        if time.perf_counter() - begun > ENOUGH:
            break
    return seconds


def _pass(
    module: nn.Module, inputs: Sequence[Tensor], clock: Clock, *, remember: bool = False
) -> tuple[int, float]:
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
    started = clock()
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
    return sum(seen.values()), clock() - started


def _loss(outputs: Sequence[Tensor]) -> Tensor:
    parts = [output.float().mean() for output in outputs if output.requires_grad]
    if not parts:
        raise StepError("no output has a gradient")
    return torch.stack(parts).sum()
