"""A state as a safetensors file: tensors as they are, without a copy in memory; numbers in its metadata."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, TensorSpec, safe_open, serialize_file
from torch import Tensor

from prune_engine.state import State

NUMBERS = "numbers"
"""The entry of the metadata that has what is no tensor, as JSON."""


def write(state: State, path: Path) -> None:
    """Write a state so that it is on the disk when this returns.

    Raises:
        OSError: it could not be written; nothing is left of it.
    """
    numbers = {name: value for name, value in state.items() if not isinstance(value, Tensor)}
    # On the CPU these are the tensors themselves. They have to live until the file is written.
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in state.items() if isinstance(value, Tensor)
    }
    specs = {name: _spec(tensor) for name, tensor in tensors.items()}
    try:
        serialize_file(specs, path, {NUMBERS: json.dumps(numbers)})
        with path.open("rb") as written:
            os.fsync(written.fileno())
    except (OSError, SafetensorError) as error:
        path.unlink(missing_ok=True)
        raise OSError(str(error)) from error


def read(path: Path) -> State:
    """The state that `write` wrote, to the same bits.

    Raises:
        OSError, SafetensorError, ValueError: there is no such file, or it is damaged.
    """
    with safe_open(path, framework="pt") as file:
        state: State = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        state.update(json.loads((file.metadata() or {})[NUMBERS]))
    return state


def _spec(tensor: Tensor) -> TensorSpec:
    return TensorSpec(
        dtype=str(tensor.dtype).removeprefix("torch."),
        shape=list(tensor.shape),
        data_ptr=tensor.data_ptr(),
        data_len=tensor.nbytes,
    )


def copied(state: State) -> State:
    """The same in main memory, so that it stays what it is."""
    return {
        name: value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else value
        for name, value in state.items()
    }
