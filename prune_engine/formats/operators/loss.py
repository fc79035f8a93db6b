"""Losses that a graph computes itself."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators.table import Kernel, Node, operator

_NEVER = -100  # no class has this number: torch's own mark for "nothing is ignored"


@operator("NegativeLogLikelihoodLoss", since=12)
def _negative_log_likelihood(node: Node) -> Kernel:
    """The mean is weighted: it divides by the weights of the targets that count."""
    ignored, reduction = node.attribute("ignore_index", _NEVER), node.attribute("reduction", "mean")

    def kernel(log_probability: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        return functional.nll_loss(
            log_probability, target.long(), weight, ignore_index=ignored, reduction=reduction
        )

    return kernel


@operator("SoftmaxCrossEntropyLoss", since=12)
def _softmax_cross_entropy(node: Node) -> Kernel:
    loss_of, with_probability = _negative_log_likelihood(node), len(node.outputs) > 1

    def kernel(
        scores: Tensor, target: Tensor, weight: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        log_probability = torch.log_softmax(scores, 1)
        loss: Tensor = loss_of(log_probability, target, weight)
        return (loss, log_probability) if with_probability else loss

    return kernel
