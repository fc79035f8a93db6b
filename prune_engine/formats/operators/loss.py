"""Losses that a graph computes itself."""

from __future__ import annotations

import torch
from torch import Tensor

from prune_engine.formats.operators.table import Kernel, Node, operator


@operator("NegativeLogLikelihoodLoss", since=12)
def _negative_log_likelihood(node: Node) -> Kernel:
    """The mean is weighted: it divides by the weights of the targets that count.

    Written out, for torch's own has no gradient for the weights.
    """
    ignored, reduction = node.attribute("ignore_index"), node.attribute("reduction", "mean")

    def kernel(log_probability: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        target = target.long()
        counts = None if ignored is None else target != ignored
        if counts is not None:  # an ignored target need not be a class
            target = torch.where(counts, target, torch.zeros_like(target))
        loss = -log_probability.gather(1, target.unsqueeze(1)).squeeze(1)
        share = torch.ones_like(loss) if weight is None else weight[target]
        share = share if counts is None else share * counts
        loss = loss * share
        if reduction == "none":
            return loss
        return loss.sum() if reduction == "sum" else loss.sum() / share.sum()

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
