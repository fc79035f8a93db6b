"""Normalisation layers."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators.alignment import aligned
from prune_engine.formats.operators.table import Kernel, Node, NotSupportedError, operator


@operator("BatchNormalization", training=True)
def _batch_normalization(node: Node) -> Kernel:
    """In training, batch statistics are used and the running ones move by 1 - momentum, in place.

    Statistics that are computed (standardised weights), or shared with another layer, cannot move: they are
    used in training too.
    """
    if not node.attribute("spatial", 1):
        raise NotSupportedError(
            "statistics for every element (spatial=0)", "Convert it: onnx.version_converter, to opset 9."
        )
    epsilon, momentum = node.attribute("epsilon", 1e-5), 1.0 - node.attribute("momentum", 0.9)
    extra_outputs, fixed = len(node.outputs) - 1, not {3, 4} <= node.statistics

    def moving(training: bool, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        if fixed or (training and x.numel() == x.shape[1]):  # one value a channel has no variance
            training = False
        scale, bias = aligned(scale), aligned(bias)
        return functional.batch_norm(x, mean, var, scale, bias, training, momentum, epsilon)

    # torch's own kernel has no gradient for the statistics
    kernel = _standardise(epsilon) if fixed and 3 not in node.constants else moving
    if not extra_outputs:
        return kernel

    def with_statistics(training: bool, *inputs: Tensor) -> tuple[Tensor | None, ...]:
        mean, var = inputs[3], inputs[4]
        if node.attribute("training_mode", 0):
            x, keep = inputs[0], 1.0 - momentum
            axes = [axis for axis in range(x.dim()) if axis != 1]
            batch_var, batch_mean = torch.var_mean(x, axes, correction=0)
            y = _standardise(epsilon)(training, x, inputs[1], inputs[2], batch_mean, batch_var)
            new_mean = mean * keep + batch_mean * momentum
            new_var = var * keep + batch_var * momentum
            return (y, new_mean, new_var)[: extra_outputs + 1]
        return (kernel(training, *inputs), mean, var, mean, var)[: extra_outputs + 1]

    return with_statistics


def _standardise(epsilon: float) -> Kernel:
    def kernel(_: bool, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        view = [-1 if axis == 1 else 1 for axis in range(x.dim())]
        factor = scale * (var + epsilon).rsqrt()
        return x * factor.view(view) + (bias - mean * factor).view(view)

    return kernel


@operator("InstanceNormalization")
def _instance_normalization(node: Node) -> Kernel:
    epsilon = node.attribute("epsilon", 1e-5)

    def kernel(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        if x[0, 0].numel() == 1:  # which torch refuses: nothing but the bias is left
            return x * 0 + bias.view(-1, *[1] * (x.dim() - 2))
        return functional.instance_norm(x, None, None, aligned(scale), aligned(bias), True, 0.0, epsilon)

    return kernel


@operator("LayerNormalization", since=17)
def _layer_normalization(node: Node) -> Kernel:
    axis, epsilon, outputs = node.attribute("axis", -1), node.attribute("epsilon", 1e-5), len(node.outputs)

    def kernel(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        shape = x.shape[axis:]
        if scale.shape != shape:  # scale and bias may broadcast
            y = functional.layer_norm(x, shape, None, None, epsilon) * scale
            y = y if bias is None else y + bias
        else:
            if bias is not None and bias.shape != shape:
                bias = bias.expand(shape)
            y = functional.layer_norm(x, shape, scale, bias, epsilon)
        if outputs == 1:
            return y
        axes = list(range(axis % x.dim(), x.dim()))
        var, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        return (y, mean, (var + epsilon).rsqrt())[:outputs]

    return kernel


@operator("RMSNormalization", since=23)
def _rms_normalization(node: Node) -> Kernel:
    axis, epsilon = node.attribute("axis", -1), node.attribute("epsilon", 1e-5)
    return lambda x, scale: functional.rms_norm(x, x.shape[axis:], None, epsilon) * scale


@operator("GroupNormalization", since=18, until=20)
def _group_normalization_by_group(node: Node) -> Kernel:
    """Until opset 20 scale and bias have one value a group."""
    groups, epsilon = node.attribute("num_groups"), node.attribute("epsilon", 1e-5)

    def kernel(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        repeats = x.shape[1] // groups
        scale, bias = scale.repeat_interleave(repeats), bias.repeat_interleave(repeats)
        return functional.group_norm(x, groups, scale, bias, epsilon)

    return kernel


@operator("GroupNormalization", since=21)
def _group_normalization(node: Node) -> Kernel:
    groups, epsilon = node.attribute("num_groups"), node.attribute("epsilon", 1e-5)
    return lambda x, scale, bias: functional.group_norm(x, groups, scale, bias, epsilon)


@operator("LRN")
def _local_response_normalization(node: Node) -> Kernel:
    size, bias = node.attribute("size"), node.attribute("bias", 1.0)
    alpha, beta = node.attribute("alpha", 1e-4), node.attribute("beta", 0.75)
    if size % 2:
        return lambda x: functional.local_response_norm(x, size, alpha, beta, bias)

    def kernel(x: Tensor) -> Tensor:  # torch pads an even size at the other end
        squares = (x * x).unsqueeze(1).flatten(3) if x.dim() > 3 else (x * x).unsqueeze(1)
        before, after = (size - 1) // 2, size // 2
        padded = functional.pad(squares, (0, 0, before, after))
        total = functional.avg_pool2d(padded, (size, 1), 1).squeeze(1).reshape(x.shape)
        scaled: Tensor = x / (bias + alpha * total) ** beta
        return scaled

    return kernel


@operator("LpNormalization")
def _lp_normalization(node: Node) -> Kernel:
    p, axis = node.attribute("p", 2), node.attribute("axis", -1)

    def kernel(x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
        return x / torch.where(norm == 0, torch.ones_like(norm), norm)  # 0 / 1: a gradient that is finite

    return kernel


@operator("MeanVarianceNormalization", since=9)
def _mean_variance_normalization(node: Node) -> Kernel:
    axes = node.attribute("axes", [0, 2, 3])

    def kernel(x: Tensor) -> Tensor:
        centred = x - x.mean(axes, keepdim=True)
        count = math.prod(x.shape[axis] for axis in axes)
        spread: Tensor = torch.linalg.vector_norm(centred, 2, axes, keepdim=True) / count**0.5
        return centred / (spread + 1e-9)

    return kernel
