"""`OnnxModule`: an imported graph as a torch module that trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from prune_engine.formats.plan import DEVICE, TRAINING, Plan, run_steps
from prune_engine.formats.weights import PrunableWeight


class OnnxModule(nn.Module):
    """An ONNX graph that runs and trains in torch, in float32.

    In training mode BatchNorm uses batch statistics and updates the running ones; Dropout drops only where
    the file says `training_mode`. Parameters may be given other storage (`parameter.data = view`): they are
    looked up at every call.
    """

    def __init__(
        self,
        plan: Plan,
        prunable: tuple[PrunableWeight, ...],
        input_names: tuple[str, ...],
        output_names: tuple[str, ...],
        statistics: Mapping[str, np.ndarray],
    ) -> None:
        super().__init__()
        self.input_names = input_names
        self.output_names = output_names
        self.prunable = prunable
        self._plan = plan
        self._original = {name: _needed(v) for name, v in {**plan.parameters, **statistics}.items()}
        self._keys: dict[str, str] = {}
        for name, values in plan.parameters.items():
            key = self._key(name)
            self.register_parameter(key, nn.Parameter(torch.from_numpy(self._floats(name, values))))
        self._plan = replace(plan, parameters={name: _needed(v) for name, v in plan.parameters.items()})
        for name, tensor in plan.buffers.items():
            self.register_buffer(self._key(name), tensor)
        trained = [(slot, self._keys[name]) for slot, name in plan.tensors if name in plan.parameters]
        fixed = [(slot, self._keys[name]) for slot, name in plan.tensors if name not in plan.parameters]
        self._parameter_slots, self._buffer_slots = tuple(trained), tuple(fixed)

    def _floats(self, name: str, values: np.ndarray) -> np.ndarray:
        """What is trained of a constant: for integers the floats that they stand for."""
        kept = self._plan.quantised.get(name)
        if kept is not None:
            return kept.dequantised(values)
        return values.astype(np.float32, copy=not values.flags.writeable)

    def _key(self, name: str) -> str:
        """torch allows no dots in the names of parameters, and some names are taken."""
        key = name.replace(".", "|") or "_"
        while hasattr(self, key):
            key += "_"
        self._keys[name] = key
        return key

    @property
    def weights(self) -> Mapping[str, nn.Parameter]:
        """ONNX name -> trained parameter: prunable weights, biases, norm scales and shifts."""
        named = self._parameters
        return {
            name: parameter
            for name in self._plan.parameters
            if (parameter := named[self._keys[name]]) is not None
        }

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The graph's outputs for its inputs, both in the file's order.

        Raises:
            TypeError: not as many inputs as the graph has.
        """
        plan = self._plan
        if len(inputs) != len(plan.inputs):
            raise TypeError(
                f"the graph takes {len(plan.inputs)} inputs {self.input_names}, not {len(inputs)}"
            )
        slots = list(plan.template)
        slots[TRAINING] = self.training
        for (slot, dtype), value in zip(plan.inputs, inputs, strict=True):
            slots[slot] = value if value.dtype is dtype else value.to(dtype)
            slots[DEVICE] = value.device
        parameters, buffers = self._parameters, self._buffers
        for slot, key in self._parameter_slots:
            slots[slot] = parameters[key]
        for slot, key in self._buffer_slots:
            slots[slot] = buffers[key]
        run_steps(plan.steps, slots)
        return tuple(slots[slot] for slot in plan.outputs)

    def state_values(self) -> dict[str, np.ndarray]:
        """ONNX name -> current value of every parameter and running statistic, in the file's own dtype.

        Elements that training did not touch come back bit for bit, whatever their precision in the file.
        """
        return {name: self._value(name, original) for name, original in self._original.items()}

    def set_values(self, values: Mapping[str, np.ndarray]) -> None:
        """Gives parameters and running statistics other values, by their ONNX names, as floats."""
        with torch.no_grad():
            for name, value in values.items():
                tensor: Tensor = getattr(self, self._keys[name])
                tensor.copy_(torch.from_numpy(np.array(value, np.float32)))

    def round_as_stored(self) -> None:
        """Rounds parameters and running statistics to what the file can hold of them."""
        with torch.no_grad():
            for name, value in self.state_values().items():
                tensor: Tensor = getattr(self, self._keys[name])
                tensor.copy_(torch.from_numpy(self._floats(name, value)))

    def _value(self, name: str, original: np.ndarray) -> np.ndarray:
        tensor: Tensor = getattr(self, self._keys[name])
        current: np.ndarray = tensor.detach().cpu().numpy()
        if original.dtype == np.float32:
            return current.copy()
        kept = self._plan.quantised.get(name)
        stored = current.astype(original.dtype) if kept is None else kept.quantised(current)
        return np.where(current == self._floats(name, original), original, stored)


def _needed(values: np.ndarray) -> np.ndarray:
    """What the way back needs of a constant's values: all of a narrow type, of float32 the shape alone."""
    return np.broadcast_to(np.zeros((), np.float32), values.shape) if values.dtype == np.float32 else values
