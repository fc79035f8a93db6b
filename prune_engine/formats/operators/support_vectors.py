"""Support vector regression of ai.onnx.ml. The classifier is left out: it votes, and has nothing to prune."""

from __future__ import annotations

import torch
from torch import Tensor

from prune_engine.formats.operators.classifiers import of_targets
from prune_engine.formats.operators.machine_learning import ML
from prune_engine.formats.operators.table import Kernel, Node, operator


@operator("SVMRegressor", domain=ML, since=1)
def _regressor(node: Node) -> Kernel:
    """The sum of coefficient times kernel(x, vector) over the vectors, plus rho; linear without vectors."""
    count = node.attribute("n_supports", 0)
    coefficients = torch.tensor(node.attribute("coefficients"), dtype=torch.float32)
    rho, finish = node.attribute("rho", [0.0])[0], of_targets(node.attribute("post_transform", "NONE"), 1)
    vectors = torch.tensor(node.attribute("support_vectors") or [], dtype=torch.float32)
    similar, one_class = _similarity(node), node.attribute("one_class", 0)

    def kernel(x: Tensor) -> Tensor:
        x, weight = x.float(), coefficients.to(x.device).unsqueeze(1)
        features = similar(x, vectors.to(x.device).reshape(count, -1)) if count else x
        score: Tensor = features @ weight + rho
        return torch.where(score > 0, 1.0, -1.0) if one_class else finish(score)

    return kernel


def _similarity(node: Node) -> Kernel:
    """x [N, F], vectors [S, F] -> [N, S]."""
    gamma, shift, degree = node.attribute("kernel_params") or [0.0, 0.0, 0.0]
    kind = node.attribute("kernel_type", "LINEAR")

    def kernel(x: Tensor, vectors: Tensor) -> Tensor:
        if kind == "RBF":
            return torch.exp(-gamma * (x.unsqueeze(1) - vectors).square().sum(-1))
        product = x @ vectors.t()
        if kind == "LINEAR":
            return product
        scaled = gamma * product + shift
        return torch.tanh(scaled) if kind == "SIGMOID" else scaled**degree

    return kernel
