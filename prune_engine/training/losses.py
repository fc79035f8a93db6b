"""The losses that pruning trains with: the task's own, and the dense model as a teacher.

Everything is computed in float32 whatever the model's dtype, and is a mean over the batch. What the model's
output means (`Prepared.outputs_are`) was found on the dense model: a softmax at the end of the graph makes
probabilities, whose logarithm takes the place of the logits, so that cross-entropy is right in both cases.
(Log-probabilities need no case of their own: log-softmax leaves them as they are.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from prune_engine.data.prepared import Prepared

_TINY = 1e-9


def task_loss(output: Tensor, labels: Tensor, prepared: Prepared) -> Tensor:
    """The loss against the labels.

    Args:
        output: the model's output number `prepared.output_index`: (batch, classes) or, for two classes with
            one output, (batch, 1) or (batch,); for numbers the labels' shape, up to axes of size 1.
        labels: as `prepared.train.batch(...)` gives them: int64 (batch,) or float32.
        prepared: says which loss. Squared and absolute errors are multiplied by `prepared.loss_scale`, one
            over the error of always predicting the mean, so that learning rates do not depend on the
            label's unit.

    Returns:
        A float32 scalar.
    """
    output = output.float()
    if prepared.task == "classification":
        scores = class_scores(output, prepared)
        if scores.ndim == 1:
            return functional.binary_cross_entropy_with_logits(scores, labels.to(scores))
        return functional.cross_entropy(scores, labels)
    return prepared.loss_scale * _error(output, labels.float(), prepared)


def distillation_loss(
    output: Tensor | Sequence[Tensor],
    teacher_output: Tensor | Sequence[Tensor],
    prepared: Prepared,
    temperature: float,
) -> Tensor:
    """How far the pruned model's output is from the dense model's.

    Classes: KL divergence of the softened classes times T^2 (Hinton, Vinyals, Dean 2015, section 2).
    Numbers next to labels: the task's own error. Without labels: the squared error relative to the
    teacher's variance in the batch.

    Args:
        output: the prediction, or all outputs of the model. Of several outputs only the prediction counts
            where the task has labels; in pure distillation all floating-point outputs count equally.
        teacher_output: the same of the dense model, without gradient.
        temperature: T; matters for classes only.

    Returns:
        A float32 scalar; 0 where both agree.
    """
    if isinstance(output, Tensor) and isinstance(teacher_output, Tensor):
        return _distill_one(output.float(), teacher_output.float(), prepared, temperature)
    index = prepared.output_index
    if prepared.task != "distillation":
        return _distill_one(output[index].float(), teacher_output[index].float(), prepared, temperature)
    parts = []
    for position, (one, teacher) in enumerate(zip(output, teacher_output, strict=True)):
        if position == index:
            parts.append(_distill_one(one.float(), teacher.float(), prepared, temperature))
        elif one.is_floating_point():
            parts.append(relative_squared_error(one.float(), teacher.float()))
    return torch.stack(parts).mean()


def class_scores(output: Tensor, prepared: Prepared) -> Tensor:
    """Logits of the classes, (batch, classes); or of the second of two classes, (batch,), with a single
    output."""
    output = output.reshape(len(output), -1)
    single = output.shape[1] == 1
    if single:
        output = output.squeeze(1)
    if prepared.outputs_are != "probabilities":
        return output
    if single:
        return torch.log(output + _TINY) - torch.log1p(_TINY - output)
    return torch.log(output + _TINY)


def relative_squared_error(output: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error over the teacher's variance in the batch."""
    return functional.mse_loss(output, teacher) / teacher.var(unbiased=False).clamp_min(_TINY)


def _distill_one(output: Tensor, teacher: Tensor, prepared: Prepared, temperature: float) -> Tensor:
    if prepared.loss == "cross_entropy":
        scores, target = class_scores(output, prepared), class_scores(teacher, prepared)
        return temperature**2 * _divergence(scores / temperature, target / temperature)
    if prepared.task == "distillation":
        return relative_squared_error(output, teacher)
    return prepared.loss_scale * _error(output, teacher, prepared)


def _divergence(scores: Tensor, target: Tensor) -> Tensor:
    """KL(target || scores), mean over the rows, from logits."""
    if scores.ndim == 1:
        zero = torch.zeros_like(scores)
        scores, target = torch.stack([zero, scores], dim=1), torch.stack([zero, target], dim=1)
    return functional.kl_div(
        functional.log_softmax(scores, dim=1),
        functional.log_softmax(target, dim=1),
        reduction="batchmean",
        log_target=True,
    )


def _error(output: Tensor, labels: Tensor, prepared: Prepared) -> Tensor:
    output = output.reshape(labels.shape)
    return (
        functional.l1_loss(output, labels) if prepared.loss == "mae" else functional.mse_loss(output, labels)
    )
