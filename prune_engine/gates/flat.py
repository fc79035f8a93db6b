"""All trained parameters of a module as one flat tensor, the prunable ones first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from prune_engine.errors import ModelError
from prune_engine.gates.chunks import chunk_length
from prune_engine.state import State, tensor_of


class FlatParameters:
    """One flat tensor of values that is trained, and one that the module sees.

    Every parameter of the module becomes a view of `shown`; a method writes `values * gate` into it before
    the forward pass. So gates live outside the graph: no extra autograd memory, and a handful of kernels
    whatever the number of layers.

    Attributes:
        values: flat, `prunable + others` long; what the optimiser trains. `values.grad` is its gradient,
            once `collect` was called.
        shown: flat, as long; what the module computes with.
        prunable: how many entries of the front belong to prunable weights.

    Args:
        weights: name -> parameter, all that are trained.
        prunable_names: names of the prunable ones among them.
        device: where the flat tensors live; the parameters move there.

    Raises:
        ModelError: the parameters do not share one dtype.
    """

    def __init__(
        self, weights: Mapping[str, nn.Parameter], prunable_names: Sequence[str], device: torch.device
    ) -> None:
        others = [name for name in weights if name not in set(prunable_names)]
        self._names = [*prunable_names, *others]
        self._prunable_names = tuple(prunable_names)
        self._parameters = [weights[name] for name in self._names]
        dtypes = {parameter.dtype for parameter in self._parameters}
        if len(dtypes) != 1:
            found = ", ".join(sorted(str(dtype) for dtype in dtypes))
            raise ModelError(
                f"weights of different types ({found}) cannot be trained together; export in one"
            )
        sizes = [parameter.numel() for parameter in self._parameters]
        self.prunable = sum(sizes[: len(prunable_names)])
        self.shown = torch.cat([parameter.detach().reshape(-1) for parameter in self._parameters]).to(device)
        self.values = self.shown.clone()
        for parameter, view in zip(self._parameters, self._views(self.shown), strict=True):
            parameter.data = view
            parameter.grad = None
        self._gradient_views: list[Tensor] = []

    def _views(self, flat: Tensor) -> list[Tensor]:
        pieces = torch.split(flat, [parameter.numel() for parameter in self._parameters])
        return [piece.view(p.shape) for piece, p in zip(pieces, self._parameters, strict=True)]

    @property
    def weights(self) -> Tensor:
        """The prunable part of `values`, a view."""
        return self.values[: self.prunable]

    @property
    def gradient(self) -> Tensor:
        """The gradient of the prunable part, a view; before `collect` that of the last step."""
        return self._gradient[: self.prunable]

    @property
    def _gradient(self) -> Tensor:
        if self.values.grad is None:
            self.values.grad = torch.zeros_like(self.values)
            self._gradient_views = self._views(self.values.grad)
        return self.values.grad

    def collect(self) -> Tensor:
        """Move what the backward pass left in the parameters into the flat gradient and return it.

        The parameters' own gradients are dropped, so that the next backward pass hands over its tensors
        instead of adding to old ones.
        """
        gradient, targets, sources = self._gradient, [], []
        for parameter, target in zip(self._parameters, self._gradient_views, strict=True):
            if parameter.grad is None:
                target.zero_()
            else:
                targets.append(target)
                sources.append(parameter.grad)
                parameter.grad = None
        if targets:
            torch._foreach_copy_(targets, sources)
        return gradient

    def pieces(self) -> Iterator[tuple[slice, Tensor]]:
        """What the backward pass left, place by place in order: each a part of the flat gradient.

        A large parameter's gradient is handed over as it is and let go of when the next one is asked for;
        small ones come together. No piece lies in both the prunable and the other part. Unlike with `collect`
        nothing is held that is as long as all parameters.
        """
        together, start, place = chunk_length(self.values.device), 0, 0
        waiting: list[Tensor] = []
        for parameter in self._parameters:
            size = parameter.numel()
            if waiting and (place + size - start > together or place == self.prunable):
                yield slice(start, place), _joined(waiting)
                waiting, start = [], place
            gradient, parameter.grad = parameter.grad, None
            waiting.append((torch.zeros_like(parameter) if gradient is None else gradient).reshape(-1))
            place += size
        if waiting:
            yield slice(start, place), _joined(waiting)

    def show_others(self) -> None:
        """Let the module see the current values of what is not prunable."""
        self.shown[self.prunable :].copy_(self.values[self.prunable :])

    def layers(self, flat: Tensor) -> list[Tensor]:
        """A flat tensor over the prunable weights as one view per weight, each of the weight's shape."""
        parameters = self._parameters[: len(self._prunable_names)]
        sizes = [parameter.numel() for parameter in parameters]
        pieces = torch.split(flat, sizes)
        return [piece.view(parameter.shape) for piece, parameter in zip(pieces, parameters, strict=True)]

    def split_mask(self, mask: Tensor) -> dict[str, np.ndarray]:
        """A flat bool mask of the prunable weights as name -> array of the weight's shape."""
        layers = self.layers(mask.cpu())
        return {name: layer.numpy().copy() for name, layer in zip(self._prunable_names, layers, strict=True)}

    def state(self) -> State:
        """The trained values; what is shown follows from them with the next step."""
        return {"values": self.values}

    def load(self, state: State) -> None:
        """Go on from `state()`."""
        self.values.copy_(tensor_of(state, "values"))
        self.shown.copy_(self.values)


def _joined(parts: list[Tensor]) -> Tensor:
    """One tensor of them; the list is emptied, so that nobody else holds what may be large."""
    joined = parts[0] if len(parts) == 1 else torch.cat(parts)
    parts.clear()
    return joined
