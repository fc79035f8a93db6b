"""A faster form of the same step: bfloat16 where the processor has it, images with their channels last.

What is done follows from static rules and from one comparison with float32, never from a clock, so that the
same request gives the same result on the same machine. The figures behind the rules are in
`benchmarks/lab-book.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from prune_engine.training.result import PrunableInfo, Trainable

FEWEST_PRODUCTS = 4_000_000
"""Multiply-adds of a product, on average, below which converting costs what it saves."""

OUTPUT_ERROR = 0.03
GRADIENT_ERROR = 0.1
"""Relative, in the Euclidean norm; sound networks were seen to be off by 0.01 and 0.025 at most."""


@dataclass(frozen=True)
class Acceleration:
    """What is done to make steps faster, and why not more."""

    bfloat16: bool = False
    channels_last: bool = False
    why: str = ""

    def __str__(self) -> str:
        parts = ["bfloat16"] * self.bfloat16 + ["channels last"] * self.channels_last
        return ", ".join(parts) or "none"


class Accelerated(nn.Module):
    """A trainable module that computes in a faster form; parameters, inputs and outputs stay float32.

    Args:
        module: what is trained; also an `nn.Module`.
        acceleration: what is done.
    """

    def __init__(self, module: Trainable, acceleration: Acceleration) -> None:
        super().__init__()
        self.module = module
        self._acceleration = acceleration

    @property
    def prunable(self) -> Sequence[PrunableInfo]:
        """The prunable weights."""
        return self.module.prunable

    @property
    def weights(self) -> Mapping[str, nn.Parameter]:
        """Name -> parameter, all that are trained."""
        return self.module.weights

    def state_values(self) -> dict[str, np.ndarray]:
        """Name -> current value: parameters and BatchNorm statistics."""
        return self.module.state_values()

    def set_values(self, values: Mapping[str, np.ndarray]) -> None:
        """Give parameters and BatchNorm statistics other values, by name."""
        self.module.set_values(values)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The model's outputs for a batch, in the types that it has without acceleration."""
        if self._acceleration.channels_last:
            inputs = tuple(map(channels_last, inputs))
        if not self._acceleration.bfloat16:
            return self.module(*inputs)
        with torch.autocast(inputs[0].device.type, torch.bfloat16):
            outputs = self.module(*inputs)
        return tuple(output.float() if output.dtype is torch.bfloat16 else output for output in outputs)


def channels_last(x: Tensor) -> Tensor:
    """The same rows with channels innermost in memory; anything but images as it is."""
    if x.dim() != 4 or not x.is_floating_point():
        return x
    x = x.contiguous(memory_format=torch.channels_last)
    _, channels, height, width = x.shape
    # With one channel both layouts are the same memory; the strides then decide what a convolution takes.
    return x.as_strided(x.shape, (channels * height * width, 1, width * channels, channels))


def accelerate(
    module: Trainable,
    inputs: tuple[Tensor, ...],
    *,
    asked: Literal["auto", "off"],
    classes: bool,
    batch: int,
) -> tuple[Trainable, Acceleration]:
    """The module in the fastest form that the rules allow, and which that is.

    Args:
        module: stays as it is, its mode included.
        inputs: some training rows, as many as the module may take.
        asked: `off` leaves everything alone.
        classes: whether classes are learned from labels; other losses are held to float32.
        batch: rows of a training step.
    """
    if asked == "off":
        return module, Acceleration(why="as asked")
    if not isinstance(module, nn.Module):
        return module, Acceleration(why="not a torch module")
    was_training = module.training
    module.eval()
    try:
        with torch.random.fork_rng():
            census = Census()
            with torch.no_grad(), census:
                expected = module(*inputs)
            why = _refused(census, inputs[0], classes, batch)
            chosen = Acceleration(not why, census.images > 0, why or "by the rule")
            if chosen.bfloat16 and (wrong := _wrong(module, chosen, inputs, expected)):
                chosen = Acceleration(False, chosen.channels_last, f"float32: in bfloat16 {wrong}")
            if str(chosen) == "channels last" and (wrong := _wrong(module, chosen, inputs, expected)):
                chosen = Acceleration(why=f"{chosen.why}; with channels last {wrong}")
    finally:
        module.train(was_training)
    return (module if str(chosen) == "none" else Accelerated(module, chosen)), chosen


def _refused(census: Census, x: Tensor, classes: bool, batch: int) -> str:
    """Why not bfloat16; empty: nothing is against it."""
    if not native_bfloat16(x.device):
        return "float32: this processor has no bfloat16 of its own"
    if not classes:
        return "float32: not classes but numbers are learned"
    if census.rounds:
        return "float32: the model rounds its values, as quantised ones do"
    if census.grouped and x.device.type == "cpu":
        return "float32: grouped convolutions are slower in bfloat16 on a CPU"
    rows = len(x) if x.dim() else 1
    if census.operations / rows * batch < FEWEST_PRODUCTS * max(census.products, 1):
        return "float32: the products are too small to gain by bfloat16"
    return ""


def _wrong(
    module: Trainable, chosen: Acceleration, inputs: tuple[Tensor, ...], expected: tuple[Tensor, ...]
) -> str:
    """What is wrong with the fast form on these rows, against float32; empty: nothing."""
    fast = Accelerated(module, chosen)
    try:
        outputs = fast(*inputs)
        gradients = [_gradients(one, inputs) for one in (fast, module)]
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        return f"an operator fails ({type(error).__name__})"
    if _error(outputs, expected) > OUTPUT_ERROR:
        return "the outputs are others"
    return "the gradients are others" if _error(*gradients) > GRADIENT_ERROR else ""


def _gradients(module: Trainable, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Of the mean square of the outputs, by every parameter, zeros where it has none."""
    parameters = list(module.weights.values())
    outputs = [output for output in module(*inputs) if output.requires_grad]
    loss = torch.stack([output.float().square().mean() for output in outputs]).sum()
    found = torch.autograd.grad(loss, parameters, allow_unused=True)  # leaves nothing in the parameters
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def _error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Of all floats together, relative, in the Euclidean norm; infinite where shapes or types differ."""
    off = size = 0.0
    for one, other in zip(found, expected, strict=True):
        if one.shape != other.shape or one.dtype is not other.dtype:
            return float("inf")
        if one.is_floating_point():
            off += float((one - other).detach().double().square().sum())
            size += float(other.detach().double().square().sum())
    return float(np.sqrt(off / size)) if size else float(off > 0.0)


def native_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    found = torch.cpu.get_capabilities()
    return device.type == "cpu" and bool(found.get("avx512_bf16") or found.get("amx_bf16"))


class Census(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what a module computes while it runs.

    Attributes:
        products: convolutions and matrix products.
        operations: their multiply-adds.
        images: convolutions over two axes.
        grouped: those of them whose channels are in groups.
        rounds: roundings to whole numbers.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.products = self.operations = self.images = self.grouped = self.rounds = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func` and count it."""
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("convolution", "_convolution"):
            x, weight, transposed, groups = args[0], args[1], args[6], args[8]
            self.products += 1
            self.operations += (x if transposed else result).numel() * weight[0].numel()
            self.images += weight.dim() == 4
            self.grouped += groups > 1
        elif name in ("mm", "bmm", "addmm", "baddbmm"):
            left = args[1] if name in ("addmm", "baddbmm") else args[0]
            self.products += 1
            self.operations += result.numel() * left.shape[-1]
        elif name in ("round", "round_"):
            self.rounds += 1
        return result
