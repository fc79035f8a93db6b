"""`OnnxModule`: an imported graph as a torch module that trains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from prune_engine.formats.plan import DEVICE, TRAINING, Plan, run_steps
from prune_engine.formats.renormalised import EPSILON, Moments, Place, folded, places, with_batch_norm
from prune_engine.formats.replay import Replays
from prune_engine.formats.weights import PrunableWeight


class OnnxModule(nn.Module):
    """An ONNX graph that runs and trains in torch, in float32.

    In training mode BatchNorm uses batch statistics and updates the running ones; Dropout drops only where
    the file says `training_mode`. Parameters may be given other storage (`parameter.data = view`): they are
    looked up at every call.

    Attributes:
        replays: records training passes and replays them; None, as it is at first: nothing does.
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
        self.replays: Replays | None = None
        self.input_names = input_names
        self.output_names = output_names
        self.prunable = prunable
        self._plan = plan
        self._original = {name: _needed(v) for name, v in {**plan.parameters, **statistics}.items()}
        self._keys: dict[str, str] = {}
        self._without: Plan | None = None
        self._places: tuple[Place, ...] = ()
        self._parameter_slots: tuple[tuple[int, str], ...] = ()
        self._buffer_slots: tuple[tuple[int, str], ...] = ()
        for name, values in plan.parameters.items():
            key = self._key(name)
            self.register_parameter(key, nn.Parameter(torch.from_numpy(self._floats(name, values))))
        self._plan = replace(plan, parameters={name: _needed(v) for name, v in plan.parameters.items()})
        for name, tensor in plan.buffers.items():
            self.register_buffer(self._key(name), tensor)
        self._bind()

    def _bind(self) -> None:
        """Look up once which parameter or buffer goes into which slot."""
        plan = self._plan
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
        while hasattr(type(self), key) or hasattr(self, key):  # a property may not be ready yet
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

    def running_statistics(self) -> list[Tensor]:
        """The buffers that training moves, in the same order in every process; all others are constants."""
        own = sorted(name for name in self._original if name not in self._plan.parameters)
        added = [name for place in self._places for name in (place.mean, place.variance)]
        return [self._tensor(name) for name in (*own, *added)]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The graph's outputs for its inputs, both in the file's order.

        Raises:
            TypeError: not as many inputs as the graph has.
        """
        if len(inputs) != len(self._plan.inputs):
            raise TypeError(
                f"the graph takes {len(self._plan.inputs)} inputs {self.input_names}, not {len(inputs)}"
            )
        if self.replays is not None and (outputs := self.replays(self, inputs)) is not None:
            return outputs
        return self.compute(inputs, self.trained)

    @property
    def trained(self) -> list[Tensor]:
        """What goes into each slot that takes a parameter; one for several slots comes as often."""
        parameters = self._parameters
        return [parameter for _, key in self._parameter_slots if (parameter := parameters[key]) is not None]

    def compute(self, inputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The outputs with these parameters, given in the order of `trained`."""
        plan = self._plan
        slots = list(plan.template)
        slots[TRAINING] = self.training
        for (slot, dtype), value in zip(plan.inputs, inputs, strict=True):
            slots[slot] = value if value.dtype is dtype else value.to(dtype)
            slots[DEVICE] = value.device
        for (slot, _), parameter in zip(self._parameter_slots, parameters, strict=True):
            slots[slot] = parameter
        buffers = self._buffers
        for slot, key in self._buffer_slots:
            slots[slot] = buffers[key]
        run_steps(plan.steps, slots)
        return tuple(slots[slot] for slot in plan.outputs)

    def state_values(self) -> dict[str, np.ndarray]:
        """ONNX name -> current value of every parameter and running statistic, in the file's own dtype.

        Elements that training did not touch come back bit for bit, whatever their precision in the file.
        """
        current = self._folded()
        return {
            name: self._value(name, original, current.get(name)) for name, original in self._original.items()
        }

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

    def renormalisable(self) -> list[str]:
        """Names of the weights whose convolution `renormalise` would give a BatchNorm."""
        return [place.weight for place in places(self._plan, {weight.name for weight in self.prunable})]

    def renormalise(self, batches: Iterable[tuple[Tensor, ...]]) -> None:
        """Compute convolutions with a BatchNorm until `fold`; the function stays the same.

        `weights` then has their gains as well, `state_values` is what `fold` would leave.

        Args:
            batches: inputs, on the module's device, from which the statistics are taken.
        """
        self._without, device = self._plan, next(self.parameters()).device
        self._places = places(self._plan, {weight.name for weight in self.prunable})
        self._plan, kernels = with_batch_norm(self._plan, self._places)
        for place in self._places:
            gain = torch.from_numpy(self._plan.parameters[place.gain].copy())
            self.register_parameter(self._key(place.gain), nn.Parameter(gain.to(device)))
            for name in (place.mean, place.variance):
                self.register_buffer(self._key(name), self._plan.buffers[name].to(device))
        self._bind()
        for kernel in kernels:
            kernel.moments = Moments()
        was_training = self.training
        self.eval()
        with torch.no_grad():
            for inputs in batches:
                self(*inputs)
            for place, kernel in zip(self._places, kernels, strict=True):
                assert kernel.moments is not None  # noqa: S101 - set above
                mean, variance = kernel.moments.result()
                self._tensor(place.mean).copy_(mean)
                self._tensor(place.variance).copy_(variance)
                self._tensor(place.gain).copy_((variance + EPSILON).sqrt())
                self._tensor(place.bias).add_(mean)
                kernel.moments = None
        self.train(was_training)

    def fold(self) -> None:
        """Undo `renormalise`: weights and biases take up the BatchNorms, which go."""
        if self._without is None:
            return
        with torch.no_grad():
            for name, value in self._folded().items():
                self._tensor(name).copy_(value)
        for place in self._places:
            for name in (place.gain, place.mean, place.variance):
                delattr(self, self._keys.pop(name))
        self._plan, self._without, self._places = self._without, None, ()
        self._bind()

    def _folded(self) -> dict[str, Tensor]:
        """What weights and biases become by `fold`."""
        values = {}
        for place in self._places:
            parts = (place.weight, place.bias, place.gain, place.mean, place.variance)
            found = [self._tensor(name).detach() for name in parts]
            values[place.weight], values[place.bias] = folded(*found)
        return values

    def _tensor(self, name: str) -> Tensor:
        tensor: Tensor = getattr(self, self._keys[name])
        return tensor

    def _value(self, name: str, original: np.ndarray, folded: Tensor | None) -> np.ndarray:
        tensor = self._tensor(name) if folded is None else folded
        current: np.ndarray = tensor.detach().cpu().numpy()
        if original.dtype == np.float32:
            return current.copy()
        kept = self._plan.quantised.get(name)
        stored = current.astype(original.dtype) if kept is None else kept.quantised(current)
        return np.where(current == self._floats(name, original), original, stored)


def _needed(values: np.ndarray) -> np.ndarray:
    """What the way back needs of a constant's values: all of a narrow type, of float32 the shape alone."""
    return np.broadcast_to(np.zeros((), np.float32), values.shape) if values.dtype == np.float32 else values
