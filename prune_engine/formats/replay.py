"""Training passes as CUDA graphs: a GPU that is told every kernel by itself waits most of the time.

A pass forward and back is recorded once and from then on launched as a whole
(https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs). What is computed stays the same. A model
that cannot be recorded, because it asks for a value in its midst or has outputs that no loss looks at, is
trained as before.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor

SEEN = 20
"""Passes before one like them is recorded: what is asked once or twice does not pay for it."""

LARGEST_SHARE = 0.25
"""Of the GPU's free memory: a pass that takes more keeps it busy anyway, and a graph keeps its memory."""

RECORDED = "passes as CUDA graphs"

Key = tuple[object, ...]
Outputs = tuple[Tensor, ...]
Pass = Callable[..., Outputs]


class Recordable(Protocol):
    """What `Replays` needs of a module."""

    training: bool

    def compute(self, inputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> Outputs:
        """The outputs with these parameters, in the order of `trained`."""

    @property
    def trained(self) -> Sequence[Tensor]:
        """Parameters that get a gradient."""

    def running_statistics(self) -> list[Tensor]:
        """Buffers that training moves."""


Recorder = Callable[[Pass, tuple[Tensor, ...]], Pass]


@dataclass
class _Shared:
    """What the objects of a module and of its copies have together."""

    said: str
    holder: Replays | None = None


class Replays:
    """Records the passes of one module that come again and again, and replays them.

    A copy of the module gets an object of its own. It adds to what this one says, and only one of them holds
    recorded passes, and their memory, at a time.

    Args:
        record: turns a function of tensors and an example of them into one that does the same.
        seen: passes before one like them is recorded.
        against: why nothing is to be recorded; empty: nothing is against it.
    """

    def __init__(self, record: Recorder | None = None, seen: int = SEEN, against: str = "") -> None:
        said = f"not recorded: {against}" if against else "not recorded: too few steps of one shape"
        self._shared = _Shared(said)
        self._record = record or record_cuda
        self._wanted = seen
        self._counts: dict[Key, int] = {}
        self._passes: dict[Key, Pass] = {}
        self._places: tuple[int, ...] = ()
        self._refused = bool(against)

    def __deepcopy__(self, memo: dict[int, object]) -> Replays:
        """For a copy of the module, whose parameters lie elsewhere."""
        other = Replays(self._record, self._wanted)
        other._shared, other._refused = self._shared, self._refused
        return other

    @property
    def said(self) -> str:
        """What came of it, for the report."""
        return self._shared.said

    def forget(self) -> None:
        """Let go of recorded passes and their memory."""
        self._passes.clear()
        gc.collect()  # torch makes a class for each, which is part of a cycle

    def __call__(self, module: Recordable, inputs: tuple[Tensor, ...]) -> Outputs | None:
        """The outputs by a recorded pass; None: the module has to compute them.

        A recorded pass leaves its gradients always in the same memory. So it is not for a pass whose
        gradients are added to those of another.
        """
        if self._refused or not torch.is_grad_enabled():
            return None
        parameters = module.trained
        if any(parameter.grad is not None for parameter in parameters):
            return None
        self._forget_others(parameters)
        key = (module.training, *_key(inputs))
        if key in self._passes:
            return self._passes[key](*inputs, *parameters)
        self._counts[key] = self._counts.get(key, 0) + 1
        if self._counts[key] > self._wanted:
            self._try(key, module, inputs, parameters)
        return None

    def _forget_others(self, parameters: Sequence[Tensor]) -> None:
        """A recorded pass reads where the parameters were; they may have moved."""
        places = tuple(parameter.data_ptr() for parameter in parameters)
        if places != self._places:
            if self._passes:
                self.forget()
            self._counts.clear()
            self._places = places

    def _try(
        self, key: Key, module: Recordable, inputs: tuple[Tensor, ...], parameters: Sequence[Tensor]
    ) -> None:
        count = len(inputs)

        def compute(*tensors: Tensor) -> Outputs:
            return module.compute(tensors[:count], tensors[count:])

        if (holder := self._shared.holder) is not None and holder is not self:
            holder.forget()
        self._shared.holder = self
        statistics = module.running_statistics()
        before = [buffer.clone() for buffer in statistics]
        try:
            self._passes[key] = self._record(compute, (*inputs, *parameters))
            self._shared.said = RECORDED
        except RuntimeError as error:
            self._refused = True
            self.forget()
            self._shared.said = f"not recorded: {str(error).strip().partition(chr(10))[0][:200]}"
        finally:
            for buffer, value in zip(statistics, before, strict=True):
                buffer.copy_(value)


def record_cuda(compute: Pass, example: tuple[Tensor, ...]) -> Pass:
    """`compute` as a CUDA graph forward and one back.

    Raises:
        RuntimeError: it waits for the GPU somewhere, or takes too much memory.
    """
    # A recorded pass holds on to its parameters' place in autograd, which no other pass may share: so it has
    # parameters of its own in the same memory, and no weight in bfloat16 that another pass has left.
    own = tuple(tensor.detach().requires_grad_(tensor.requires_grad) for tensor in example)
    torch.clear_autocast_cache()
    with torch.autocast(
        "cuda",
        torch.get_autocast_dtype("cuda"),
        enabled=torch.is_autocast_enabled("cuda"),
        cache_enabled=False,
    ):
        _require_small(example[0].device, lambda: _require_no_waiting(compute, own))
        # A recording that fails may leave another stream behind than it found.
        with torch.cuda.stream(torch.cuda.current_stream(example[0].device)):
            recorded = cast(Pass, torch.cuda.make_graphed_callables(compute, own, allow_unused_input=True))
        require_own_memory(_gradients(recorded, own))
    return recorded


def _require_small(device: torch.device, run: Callable[[], None]) -> None:
    """Refuse a pass that takes much of the memory that is left, when it is run for a trial."""
    free, before = torch.cuda.mem_get_info(device)[0], torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    if torch.cuda.max_memory_allocated(device) - before > LARGEST_SHARE * free:
        raise RuntimeError("the steps are large enough to keep the GPU busy")


def _require_no_waiting(compute: Pass, example: tuple[Tensor, ...]) -> None:
    """A recording that is broken off cannot be trusted to leave the GPU in order, so it is tried before."""
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        _gradients(compute, example)
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def _gradients(compute: Pass, example: tuple[Tensor, ...]) -> list[Tensor]:
    """Those that a pass leaves; none for what the outputs do not depend on."""
    outputs = [output for output in compute(*example) if output.requires_grad]
    wanted = [tensor for tensor in example if tensor.requires_grad]
    given = [torch.ones_like(output) for output in outputs]
    found = torch.autograd.grad(outputs, wanted, given, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


def require_own_memory(gradients: Sequence[Tensor]) -> None:
    """A training works on gradients in place: two in one memory, as of a sum of two weights, would mix.

    Raises:
        RuntimeError: there are such.
    """
    if len({gradient.untyped_storage().data_ptr() for gradient in gradients}) < len(gradients):
        raise RuntimeError("gradients of several parameters share their memory")


def _key(inputs: tuple[Tensor, ...]) -> Key:
    """What two passes must share so that one recording is for both."""
    kinds = tuple((x.shape, x.stride(), x.dtype, x.requires_grad) for x in inputs)
    device = inputs[0].device.type
    return (*kinds, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))
