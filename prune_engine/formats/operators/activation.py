"""Activation functions and the softmax family."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators.table import Kernel, Node, function, operator

function("Relu", functional.relu)
function("Sigmoid", torch.sigmoid)
function("Tanh", torch.tanh)
function("Softplus", functional.softplus)
function("Softsign", functional.softsign)
function("HardSwish", functional.hardswish, since=14)
function("Mish", functional.mish, since=18)


@operator("LeakyRelu")
def _leaky_relu(node: Node) -> Kernel:
    alpha = node.attribute("alpha", 0.01)
    return lambda x: functional.leaky_relu(x, alpha)


@operator("Elu")
def _elu(node: Node) -> Kernel:
    alpha = node.attribute("alpha", 1.0)
    return lambda x: functional.elu(x, alpha)


@operator("Celu", since=12)
def _celu(node: Node) -> Kernel:
    alpha = node.attribute("alpha", 1.0)
    return lambda x: functional.celu(x, alpha)


@operator("Selu")
def _selu(node: Node) -> Kernel:
    alpha = node.attribute("alpha", 1.67326319217681884765625)
    gamma = node.attribute("gamma", 1.05070102214813232421875)
    return lambda x: gamma * functional.elu(x, alpha)


@operator("ThresholdedRelu", since=10)
def _thresholded_relu(node: Node) -> Kernel:
    alpha = node.attribute("alpha", 1.0)
    return lambda x: functional.threshold(x, alpha, 0.0)


@operator("HardSigmoid")
def _hard_sigmoid(node: Node) -> Kernel:
    alpha, beta = node.attribute("alpha", 0.2), node.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return functional.hardsigmoid
    return lambda x: torch.clamp(x * alpha + beta, 0.0, 1.0)


@operator("Shrink", since=9)
def _shrink(node: Node) -> Kernel:
    bias, lambd = node.attribute("bias", 0.0), node.attribute("lambd", 0.5)

    def kernel(x: Tensor) -> Tensor:
        shrunk = torch.where(x > lambd, x - bias, torch.zeros_like(x))
        return torch.where(x < -lambd, x + bias, shrunk)

    return kernel


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


function("PRelu", _prelu, since=7)


@operator("PRelu", until=6)
def _prelu_by_channel(node: Node) -> Kernel:
    """Before opset 7 a list of slopes belongs to the channels."""

    def kernel(x: Tensor, slope: Tensor) -> Tensor:
        if slope.dim() == 1 and x.dim() > 1:
            slope = slope.reshape(-1, *[1] * (x.dim() - 2))
        return _prelu(x, slope)

    return kernel


@operator("Gelu", since=20)
def _gelu(node: Node) -> Kernel:
    approximate = node.attribute("approximate", "none")
    return lambda x: functional.gelu(x, approximate=approximate)


@operator("Swish", since=24)
def _swish(node: Node) -> Kernel:
    return _swish_function(node.attribute("alpha", 1.0))


@operator("SwiGLU", since=28)
def _swiglu(node: Node) -> Kernel:
    swish = _swish_function(node.attribute("alpha", 1.0))
    return lambda gate, value: swish(gate) * value


def _swish_function(alpha: float) -> Kernel:
    if alpha == 1.0:
        return functional.silu
    return lambda x: x * torch.sigmoid(alpha * x)


@operator("Softmax", "LogSoftmax", "Hardmax", until=12)
def _softmax_of_a_matrix(node: Node) -> Kernel:
    """Before opset 13 the input is coerced to a matrix: the axes from `axis` on count as one."""
    axis, apply = node.attribute("axis", 1), _softmax_function(node.operator)

    def kernel(x: Tensor) -> Tensor:
        start = axis % x.dim() if axis != x.dim() else axis
        if start == x.dim() - 1:
            last: Tensor = apply(x, -1)
            return last
        whole: Tensor = apply(x.flatten(start), -1)
        return whole.reshape(x.shape)

    return kernel


@operator("Softmax", "LogSoftmax", "Hardmax", since=13)
def _softmax(node: Node) -> Kernel:
    axis, apply = node.attribute("axis", -1), _softmax_function(node.operator)
    if node.operator == "Softmax" and node.asked_for_nan:
        return lambda x: _softmax_of_masked_rows(x, axis)
    return lambda x: apply(x, axis)


def _softmax_of_masked_rows(x: Tensor, axis: int) -> Tensor:
    """Softmax where the graph itself puts something else for rows that are minus infinity throughout.

    Such rows are NaN, as they must be, but their gradient is zero and not NaN as well.
    """
    masked = (x == -math.inf).all(axis, keepdim=True)
    return torch.softmax(x.masked_fill(masked, 0.0), axis).masked_fill(masked, math.nan)


def _softmax_function(name: str) -> Kernel:
    functions: dict[str, Kernel] = {
        "Softmax": torch.softmax,
        "LogSoftmax": torch.log_softmax,
        "Hardmax": _hardmax,
    }
    return functions[name]


def _hardmax(x: Tensor, axis: int) -> Tensor:
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1.0)
