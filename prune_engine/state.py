"""The state of a training as plain tensors and numbers, so that it can be kept, written and put back.

`state()` gives references to what is trained, not copies; `load()` copies what it is given. Between the two
lies `training/snapshot.py`, which does the copying.
"""

from __future__ import annotations

import torch
from torch import Tensor

State = dict[str, Tensor | int | float]


def prefixed(name: str, state: State) -> State:
    """The entries of `state` as part `name` of a larger one."""
    return {f"{name}.{key}": value for key, value in state.items()}


def part(state: State, name: str) -> State:
    """Part `name` of a larger state: what `prefixed` put there."""
    start = f"{name}."
    return {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}


def tensor_of(state: State, name: str) -> Tensor:
    """An entry that must be a tensor."""
    value = state[name]
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} is a {type(value).__name__} in this state, not a tensor")
    return value


def optimiser_state(optimiser: torch.optim.Optimizer, parameter: Tensor) -> State:
    """What an optimiser remembers of a parameter, its step count included; nothing before its first step."""
    return dict(optimiser.state.get(parameter, {}))


def load_optimiser(optimiser: torch.optim.Optimizer, parameter: Tensor, state: State) -> None:
    """Let an optimiser go on with a parameter from where `optimiser_state` left it."""
    # A tensor as a key of `Optimizer.state` is looked up by identity.
    optimiser.state.pop(parameter, None)
    if state:
        optimiser.state[parameter] = {
            name: value.to(parameter.device, copy=True) if isinstance(value, Tensor) else value
            for name, value in state.items()
        }
