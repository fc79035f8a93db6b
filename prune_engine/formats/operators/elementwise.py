"""Arithmetic element by element, with numpy's broadcasting."""

from __future__ import annotations

import operator as python
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from prune_engine.formats.operators.broadcasting import by_axis
from prune_engine.formats.operators.table import Kernel, Node, function, operator
from prune_engine.formats.operators.unsigned import wrapped


def _is_integral(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point()
    return isinstance(value, int)


def _divide(a: Any, b: Any) -> Any:
    if _is_integral(a):
        return torch.div(torch.as_tensor(a), b, rounding_mode="trunc")
    return a / b


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(exponent, float | int) and exponent == 2 and isinstance(base, Tensor):
        return base * base
    result = torch.pow(base, exponent)
    return result.to(base.dtype) if isinstance(base, Tensor) else result


def _sign(x: Tensor) -> Tensor:
    return torch.sign(x)


_BINARY: dict[str, Kernel] = {
    "Add": python.add,
    "Sub": python.sub,
    "Mul": python.mul,
    "Div": _divide,
    "Pow": _power,
}


@operator(*_BINARY, since=7, scalars=True)
def _arithmetic(node: Node) -> Kernel:
    return wrapped(node, _BINARY[node.operator])


@operator(*_BINARY, until=6, scalars=True)
def _old_arithmetic(node: Node) -> Kernel:
    return by_axis(node, wrapped(node, _BINARY[node.operator]))


_UNARY: dict[str, Kernel] = {
    "Abs": torch.abs,
    "Neg": torch.neg,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
}
for _name, _unary in _UNARY.items():
    function(_name, _unary)

_UNARY_SINCE_7: dict[str, Kernel] = {
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Asin": torch.asin,
    "Acos": torch.acos,
    "Atan": torch.atan,
}
for _name, _unary in _UNARY_SINCE_7.items():
    function(_name, _unary, since=7)

_UNARY_SINCE_9: dict[str, Kernel] = {
    "Sign": _sign,
    "Erf": torch.erf,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Asinh": torch.asinh,
    "Acosh": torch.acosh,
    "Atanh": torch.atanh,
}
for _name, _unary in _UNARY_SINCE_9.items():
    function(_name, _unary, since=9)
function("Round", torch.round, since=11)


@operator("Mod", since=10, scalars=True)
def _mod(node: Node) -> Kernel:
    remainder = torch.fmod if node.attribute("fmod", 0) else torch.remainder
    return lambda a, b: remainder(a if isinstance(a, Tensor) else torch.full_like(b, a), b)


def _chain(combine: Callable[[Tensor, Tensor], Tensor]) -> Kernel:
    return lambda *values: reduce(combine, values)


function("Sum", _chain(torch.add))
function("Max", _chain(torch.maximum))
function("Min", _chain(torch.minimum))
function("Mean", lambda *values: reduce(torch.add, values) / len(values))


def _clip(x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    if low is None and high is None:
        return x
    if isinstance(low, Tensor) or isinstance(high, Tensor):  # torch does not mix numbers and tensors
        x = x if low is None else torch.maximum(x, torch.as_tensor(low, dtype=x.dtype, device=x.device))
        return x if high is None else torch.minimum(x, torch.as_tensor(high, dtype=x.dtype, device=x.device))
    return torch.clamp(x, low, high)


@operator("Clip", until=10)
def _clip_by_attributes(node: Node) -> Kernel:
    low, high = node.attribute("min"), node.attribute("max")
    return lambda x: _clip(x, low, high)


@operator("Clip", since=11, scalars=True)
def _clip_by_inputs(node: Node) -> Kernel:
    return _clip


@operator("IsInf", since=10)
def _is_inf(node: Node) -> Kernel:
    negative, positive = node.attribute("detect_negative", 1), node.attribute("detect_positive", 1)
    if negative and positive:
        return torch.isinf
    if negative:
        return torch.isneginf
    if positive:
        return torch.isposinf
    return lambda x: torch.zeros_like(x, dtype=torch.bool)


function("IsNaN", torch.isnan, since=9)
