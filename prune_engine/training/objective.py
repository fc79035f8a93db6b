"""The loss of a training step: labels, teacher, or both."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from prune_engine.training.augmentation import Shifts
from prune_engine.training.distributed import agreed, average_buffers, own, ranks, sum_gradients
from prune_engine.training.losses import distillation_loss, task_loss
from prune_engine.training.result import Trainable
from prune_engine.training.teacher import Teacher

if TYPE_CHECKING:
    from prune_engine.data import Prepared


class Objective:
    """`(1 - share) * task loss + share * distillation loss` of a batch.

    Attributes:
        share: may be changed to another one, where it was not 0 at first.

    Args:
        module: the model that is pruned; its teacher is a copy of what it is now.
        prepared: data and what the outputs mean.
        share: of the loss that comes from the teacher, in [0, 1]; without labels it is 1.
        temperature: of the teacher's classes.
        expected_rows: rows that the training will use in all, repeats included.
        at_once: whether the teacher answers for all rows before the training; see `Teacher`.

    Attributes:
        share: as it is now.
        shifts: moves images before the module sees them, not for the teacher; None: nothing is moved.
    """

    def __init__(
        self,
        module: Trainable,
        prepared: Prepared,
        share: float,
        temperature: float,
        expected_rows: int,
        *,
        at_once: bool = True,
    ) -> None:
        self._module = module
        self._prepared = prepared
        self.share = share
        self.shifts: Shifts | None = None
        self._temperature = temperature
        fixed = prepared.fixed_batch
        self._teacher = (
            Teacher(module, prepared.train, expected_rows, fixed, at_once=at_once) if share > 0.0 else None
        )

    def backward(self, index: Tensor, step: int = 0) -> Tensor:
        """Leave the gradient of the mean loss of the training rows `index` in the parameters; the loss.

        At another `step` the rows are moved otherwise.

        A model that demands a batch size gets the rows in such pieces, and the gradients are added up. Where
        several processes train, each computes its share of the rows, and gradients and loss are of them all.
        """
        fixed = self._prepared.fixed_batch
        pieces = torch.tensor_split(index, ranks()) if fixed is None else torch.split(index, fixed)
        total = torch.zeros((), device=index.device)
        for piece in own(pieces):
            if not len(piece):
                continue
            inputs, labels = self._prepared.train.batch(piece)
            seen = inputs if self.shifts is None else self.shifts(inputs, piece, step)
            share = len(piece) / len(index)
            loss = self._loss(self._module(*seen), labels, self._taught(piece, inputs)) * share
            torch.autograd.backward(loss)
            total += loss.detach()
        if ranks() > 1:
            total = sum_gradients(self._module.weights.values(), total)
            average_buffers(cast(nn.Module, self._module))
        return total

    def constant_answer(self, index: Tensor) -> float:
        """The loss of answering every row with the mean of the outputs; what a destroyed network has."""
        piece = index[: self._prepared.fixed_batch or len(index)]
        inputs, labels = self._prepared.train.batch(piece)
        with torch.no_grad():
            outputs = tuple(
                output.mean(0, keepdim=True).expand_as(output)
                if output.is_floating_point() and output.dim()
                else output
                for output in self._module(*inputs)
            )
            return agreed(float(self._loss(outputs, labels, self._taught(piece, inputs))))

    def _taught(self, index: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        return None if self._teacher is None or not self.share else self._teacher(index, inputs)

    def _loss(
        self, outputs: tuple[Tensor, ...], labels: Tensor | None, taught: tuple[Tensor, ...] | None
    ) -> Tensor:
        prepared, share = self._prepared, self.share
        parts = []
        if labels is not None and share < 1.0:
            parts.append((1.0 - share) * task_loss(outputs[prepared.output_index], labels, prepared))
        if taught is not None:
            parts.append(share * distillation_loss(outputs, taught, prepared, self._temperature))
        return torch.stack(parts).sum()
