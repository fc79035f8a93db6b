"""Scores to labels and probabilities, and the linear models of ai.onnx.ml."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from prune_engine.formats.operators.machine_learning import ML, NO_STRINGS
from prune_engine.formats.operators.table import Kernel, Node, NotSupportedError, operator


def post_transform(name: str) -> Kernel:
    """What is done with scores [N, classes] in the end: NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO or PROBIT."""
    functions: dict[str, Kernel] = {
        "NONE": lambda x: x,
        "SOFTMAX": lambda x: torch.softmax(x, -1),
        "LOGISTIC": torch.sigmoid,
        "SOFTMAX_ZERO": _softmax_zero,
        "PROBIT": torch.special.ndtri,
    }
    return functions[name]


def of_targets(name: str, targets: int) -> Kernel:
    """`post_transform` for a regression; onnxruntime leaves a single target alone but for PROBIT."""
    return post_transform(name if targets > 1 or name == "PROBIT" else "NONE")


def _softmax_zero(x: Tensor) -> Tensor:
    """A softmax that leaves zeros zero."""
    return torch.softmax(x, -1) * (x != 0)


def classify(labels: Sequence[int], transform: str, positive: bool) -> Kernel:
    """Scores -> (labels [N], scores [N, classes]).

    A single score for two classes is that of the second; the first gets its complement where scores are
    probabilities (`positive`: no weight is negative), else its negative.
    """
    names, finish = torch.tensor(list(labels)), post_transform(transform)

    def kernel(scores: Tensor) -> tuple[Tensor, Tensor]:
        table = names.to(scores.device)
        if scores.shape[1] == 1 and len(labels) == 2:
            chosen = (scores[:, 0] > (0.5 if positive else 0.0)).long()
            if transform == "LOGISTIC":
                return table[chosen], torch.sigmoid(torch.cat([-scores, scores], 1))
            both = torch.cat([1 - scores if positive else -scores, scores], 1)
            return table[chosen], finish(both)
        return table[scores.argmax(1)], finish(scores)

    return kernel


def _matrix(node: Node, rows: int) -> tuple[Tensor, Tensor]:
    """Coefficients [features, rows] and intercepts [rows]."""
    weights = np.array(node.attribute("coefficients"), np.float32).reshape(rows, -1)
    shift = node.attribute("intercepts") or [0.0] * rows
    return torch.from_numpy(weights.T.copy()), torch.tensor(shift, dtype=torch.float32)


@operator("LinearRegressor", domain=ML, since=1)
def _linear_regressor(node: Node) -> Kernel:
    targets = node.attribute("targets", 1)
    weight, shift = _matrix(node, targets)
    finish = of_targets(node.attribute("post_transform", "NONE"), targets)
    return lambda x: finish(x.float() @ weight.to(x.device) + shift.to(x.device))


@operator("LinearClassifier", domain=ML, since=1)
def _linear_classifier(node: Node) -> Kernel:
    labels = node.attribute("classlabels_ints")
    if not labels:
        raise NotSupportedError("class labels that are strings", NO_STRINGS)
    weight, shift = _matrix(node, len(node.attribute("intercepts") or labels))
    finish = classify(labels, node.attribute("post_transform", "NONE"), False)
    return lambda x: finish(x.float() @ weight.to(x.device) + shift.to(x.device))
