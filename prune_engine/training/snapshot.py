"""A training kept between two steps, so that it can go on from there again, to the same bits.

A snapshot is flat: tensors in main memory, and numbers. It holds all that a step reads and that steps change;
not the data, the settings and the teacher, which stay what they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from prune_engine.state import State, part, prefixed, tensor_of
from prune_engine.training.phases import FixedMaskPhase

if TYPE_CHECKING:
    from prune_engine.training.run import Run

GATES, EXCHANGING, FINETUNING = range(3)
"""Which phase a snapshot was taken in."""


def take(run: Run) -> State:
    """Copy the whole state of a training."""
    return {
        name: value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else value
        for name, value in live(run).items()
    }


def live(run: Run) -> State:
    """The whole state as it is now: what the next step changes is not copied."""
    return {
        "phase": _phase(run),
        "measurements": run.measurements,
        **prefixed("training", run.phase.state()),
        **prefixed("batches", run.batches.state()),
        **prefixed("clock", run.clock.state()),
        **prefixed("curve", run.curve.state()),
        **prefixed("buffers", _buffers(run)),
        **prefixed("random", _random(run)),
    }


def restore(run: Run, state: State, *, rewind: bool = True) -> None:
    """Put a training back to where `state` was taken of it; the next step is the one that came then.

    Args:
        run: the training, in whatever phase it is now.
        state: from `take`, of this training or of one with the same module, data and settings.
        rewind: whether the count of steps and the curve go back as well. A fork that was followed to its end
            was work that was done: there they go on.
    """
    flat = run.subject.flat
    training = part(state, "training")
    if state["phase"] == GATES:
        run.phase = run.pruning
    else:
        mask = torch.zeros(flat.prunable, dtype=torch.bool, device=flat.values.device)
        index = tensor_of(training, "index")
        mask[index[index < flat.prunable].to(mask.device)] = True
        run.phase = run.fixed_phase(mask, exchanging=int(state["phase"]) == EXCHANGING)
    run.phase.load(training)
    run.batches.load(part(state, "batches"))
    buffers = _buffers(run)
    for name in buffers:
        tensor_of(buffers, name).copy_(tensor_of(state, f"buffers.{name}"))
    torch.set_rng_state(tensor_of(state, "random.cpu"))
    if "random.cuda" in state:
        torch.cuda.set_rng_state(tensor_of(state, "random.cuda"), run.subject.device)
    run.subject.train()
    if rewind:
        run.measurements = int(state["measurements"])
        run.clock.load(part(state, "clock"))
        run.curve.load(part(state, "curve"))


def _phase(run: Run) -> int:
    if not isinstance(run.phase, FixedMaskPhase):
        return GATES
    return EXCHANGING if run.phase.stage == "pruning" else FINETUNING


def _buffers(run: Run) -> State:
    """What the module changes by itself: BatchNorm's running statistics."""
    module = run.subject.module
    return dict(module.named_buffers()) if isinstance(module, nn.Module) else {}


def _random(run: Run) -> State:
    """The generators that Dropout and the like draw from."""
    state: State = {"cpu": torch.get_rng_state()}
    if run.subject.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(run.subject.device)
    return state
