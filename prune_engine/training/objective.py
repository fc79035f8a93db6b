"""The loss of a training step: labels, teacher, or both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from prune_engine.training.losses import distillation_loss, task_loss
from prune_engine.training.result import Trainable
from prune_engine.training.teacher import Teacher

if TYPE_CHECKING:
    from prune_engine.data import Prepared


class Objective:
    """`(1 - share) * task loss + share * distillation loss` of a batch.

    Args:
        module: the model that is pruned; its teacher is a copy of what it is now.
        prepared: data and what the outputs mean.
        share: of the loss that comes from the teacher, in [0, 1]; without labels it is 1.
        temperature: of the teacher's classes.
        expected_rows: rows that the training will use in all, repeats included.
    """

    def __init__(
        self, module: Trainable, prepared: Prepared, share: float, temperature: float, expected_rows: int
    ) -> None:
        self._module = module
        self._prepared = prepared
        self._share = share
        self._temperature = temperature
        self._all_outputs = prepared.task == "distillation"
        wanted = None if self._all_outputs else prepared.output_index
        self._teacher = Teacher(module, prepared.train, wanted, expected_rows) if share > 0.0 else None

    def __call__(self, index: Tensor) -> Tensor:
        """Loss of the training rows `index`, a scalar with its graph."""
        prepared = self._prepared
        inputs, labels = prepared.train.batch(index)
        outputs = self._module(*inputs)
        prediction = outputs[prepared.output_index]
        task = task_loss(prediction, labels, prepared) if labels is not None and self._share < 1.0 else None
        if self._teacher is None:
            assert task is not None  # noqa: S101 - without labels the share is 1, and then there is a teacher
            return task
        taught = self._teacher(index, inputs)
        if self._all_outputs:
            teaching = distillation_loss(outputs, taught, prepared, self._temperature)
        else:
            teaching = distillation_loss(prediction, taught[0], prepared, self._temperature)
        return teaching if task is None else (1.0 - self._share) * task + self._share * teaching
