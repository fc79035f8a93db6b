"""Shape arithmetic on Python numbers.

The sizes that a graph computes for its Reshapes and Slices stay Python ints and lists: no tensor is made for
them and a GPU is never waited for. A node runs here when all its inputs are numbers of rank 0 or 1.
"""

from __future__ import annotations

import math
import operator as python
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import TensorProto

from prune_engine.formats.operators.creation import check_size
from prune_engine.formats.operators.table import Kernel, Node
from prune_engine.formats.tensors import to_numpy


@dataclass(frozen=True)
class Host:
    """The form of a host value: `length` None is a number, otherwise a list; -1: of unknown length."""

    length: int | None = None

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return self.length is not None


Built = tuple[Kernel, Host] | None
HostBuilder = Callable[[Node, Sequence[Host]], Built]
NUMBER = Host()

_TABLE: dict[str, HostBuilder] = {}


def host_operator(*names: str) -> Callable[[HostBuilder], HostBuilder]:
    """Registers how operators of the ONNX domain run on numbers; the builder may say None: not this node."""

    def register(build: HostBuilder) -> HostBuilder:
        for name in names:
            _TABLE[name] = build
        return build

    return register


# Constants of other types are folded as tensors: a Python number does not say that it is an int32.
_PLAIN = {
    TensorProto.INT64,
    TensorProto.BOOL,
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
}


def build_host(node: Node, forms: Sequence[Host]) -> Built:
    """The kernel and the form of its result, or None where the node must compute with tensors."""
    build = _TABLE.get(node.operator) if node.domain == "" and len(node.outputs) == 1 else None
    if build is None:
        return None
    known = len(node.constants) == sum(1 for name in node.inputs if name)
    if known and any(node.types.get(place, TensorProto.INT64) not in _PLAIN for place in node.constants):
        return None
    return build(node, forms)


def _broadcast(forms: Sequence[Host]) -> Host:
    lengths = [form.length for form in forms if form.length is not None]
    if not lengths:
        return NUMBER
    if -1 in lengths:
        return Host(-1)
    return Host(0 if 0 in lengths else max(lengths))


def _elementwise(apply: Callable[..., Any]) -> HostBuilder:
    def build(node: Node, forms: Sequence[Host]) -> Built:
        form, rounded = _broadcast(forms), _rounded(apply, node)
        if not form.is_list:
            return rounded, form

        def kernel(*values: Any) -> list[Any]:
            lengths = {len(v) for v in values if isinstance(v, list)}
            length = 0 if 0 in lengths else max(lengths)
            columns = [
                v * length if len(v) == 1 else v for v in (v if isinstance(v, list) else [v] for v in values)
            ]
            return [rounded(*row) for row in zip(*columns, strict=True)]

        return kernel, form

    return build


def _rounded(apply: Callable[..., Any], node: Node) -> Callable[..., Any]:
    """`apply`, with its result rounded to float32 (unless it is known to be double) or wrapped to int64."""
    double = TensorProto.DOUBLE in node.types.values()

    def rounded(*values: Any) -> Any:
        result = apply(*values)
        if type(result) is float and not double:
            return float(np.float32(result))
        if type(result) is int and not _SMALLEST <= result <= _LARGEST:
            return (result - _SMALLEST) % 2**64 + _SMALLEST
        return result

    return rounded


_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


def _divide(a: Any, b: Any) -> Any:
    """Of integers, rounded to zero; sizes may be symbolic."""
    if not isinstance(a, float) and not isinstance(b, float):
        quotient = abs(a) // abs(b)
        return quotient if (a < 0) == (b < 0) else -quotient
    if b == 0:
        return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)
    return a / b


def _power(base: Any, exponent: Any) -> Any:
    """In the type of the base."""
    if isinstance(base, float) or isinstance(exponent, float) or exponent < 0:
        with np.errstate(all="ignore"):
            result = float(np.power(float(base), float(exponent)))
        return result if isinstance(base, float) else _whole(result)
    return base**exponent


def _whole(a: Any) -> int:
    """A number as int64; what is none, or too large, becomes the smallest integer, as on x86 processors."""
    if isinstance(a, float) and not (math.isfinite(a) and _SMALLEST <= a <= _LARGEST):
        return _SMALLEST
    return int(a)


def _int32(a: Any) -> int:
    return (_whole(a) + 2**31) % 2**32 - 2**31


def _step(towards: Callable[[float], int]) -> Callable[[float], float]:
    """Floor, Ceil or Round; infinities and NaN stay."""
    return lambda a: math.copysign(towards(a), a) if math.isfinite(a) else a


_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Add": python.add,
    "Sub": python.sub,
    "Mul": python.mul,
    "Div": _divide,
    "Neg": python.neg,
    "Abs": abs,
    "Floor": _step(math.floor),
    "Ceil": _step(math.ceil),
    "Round": _step(round),
    "Sqrt": lambda a: math.sqrt(a) if a >= 0 else math.nan,
    "Reciprocal": lambda a: _divide(1.0, a),
    "Pow": _power,
    "Equal": python.eq,
    "Less": python.lt,
    "Greater": python.gt,
    "LessOrEqual": python.le,
    "GreaterOrEqual": python.ge,
    "And": lambda a, b: a and b,
    "Or": lambda a, b: a or b,
    "Xor": python.ne,
    "Not": python.not_,
    "Where": lambda c, a, b: a if c else b,
    "Min": lambda *v: min(v),
    "Max": lambda *v: max(v),
    "Identity": lambda a: a,
}
for _name, _apply in _ELEMENTWISE.items():
    host_operator(_name)(_elementwise(_apply))


@host_operator("Mod")
def _mod(node: Node, forms: Sequence[Host]) -> Built:
    """With `fmod` the remainder has the sign of the dividend, without it that of the divisor."""

    def towards_zero(a: Any, b: Any) -> Any:
        return math.fmod(a, b) if isinstance(a, float) else a - b * _divide(a, b)

    return _elementwise(towards_zero if node.attribute("fmod", 0) else python.mod)(node, forms)


@host_operator("Cast")
def _cast(node: Node, forms: Sequence[Host]) -> Built:
    target = node.attribute("to")
    casts: dict[int, Callable[[Any], Any]] = {
        **dict.fromkeys((TensorProto.FLOAT, TensorProto.DOUBLE), float),
        TensorProto.BOOL: bool,
        TensorProto.INT64: _whole,
        TensorProto.INT32: _int32,
    }
    if target not in casts:
        return None
    if target == TensorProto.DOUBLE:
        node = replace(node, types={0: TensorProto.DOUBLE})
    elif node.types.get(0) == TensorProto.DOUBLE:
        node = replace(node, types={})
    return _elementwise(casts[target])(node, forms)


@host_operator("Gather")
def _gather(node: Node, forms: Sequence[Host]) -> Built:
    data, index = forms
    if not data.is_list:
        return None
    if index.is_list:
        return lambda values, places: [values[p] for p in places], Host(index.length)
    return python.getitem, NUMBER


@host_operator("Concat")
def _concat(node: Node, forms: Sequence[Host]) -> Built:
    lengths = [form.length for form in forms]
    if any(length is None for length in lengths):
        return None
    known = [length for length in lengths if length is not None]
    return lambda *parts: [v for part in parts for v in part], Host(-1 if -1 in known else sum(known))


@host_operator("Slice")
def _slice(node: Node, forms: Sequence[Host]) -> Built:
    if not forms[0].is_list:
        return None
    if node.opset < 10:
        window = slice(node.attribute("starts")[0], node.attribute("ends")[0])
        length = forms[0].length or 0
        return lambda v: v[window], Host(-1 if length < 0 else len(range(length)[window]))

    def kernel(v: list[Any], starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> list[Any]:
        return v[starts[0] : ends[0] : steps[0] if steps else None]

    length = -1
    places = [node.constants.get(i) for i in (1, 2, 4)]
    if (forms[0].length or 0) >= 0 and places[0] is not None and places[1] is not None:
        step = int(places[2].reshape(-1)[0]) if places[2] is not None else None
        bounds = slice(int(places[0].reshape(-1)[0]), int(places[1].reshape(-1)[0]), step)
        length = len(range(forms[0].length or 0)[bounds])
    return kernel, Host(length)


@host_operator("Unsqueeze")
def _unsqueeze(node: Node, forms: Sequence[Host]) -> Built:
    axes = node.attribute("axes") if node.opset < 13 else node.constants.get(1)
    if forms[0].is_list or axes is None or np.size(axes) != 1:
        return None
    return lambda v, axes=None: [v], Host(1)


@host_operator("Squeeze")
def _squeeze(node: Node, forms: Sequence[Host]) -> Built:
    if forms[0].length != 1:
        return (lambda v, axes=None: v, NUMBER) if not forms[0].is_list else None
    return lambda v, axes=None: v[0], NUMBER


@host_operator("Reshape")
def _reshape(node: Node, forms: Sequence[Host]) -> Built:
    shape = node.constants.get(1)
    if shape is None:
        return None
    if shape.size == 0:
        return (lambda v, _: v[0]) if forms[0].is_list else (lambda v, _: v), NUMBER
    if shape.size == 1:
        length = forms[0].length if forms[0].is_list else 1
        return (lambda v, _: v) if forms[0].is_list else (lambda v, _: [v]), Host(length)
    return None


@host_operator("ConstantOfShape")
def _constant_of_shape(node: Node, forms: Sequence[Host]) -> Built:
    proto = node.attribute("value")
    if forms[0].length != 1 or proto is None or proto.data_type not in (TensorProto.INT64, TensorProto.BOOL):
        return None
    value = to_numpy(proto).reshape(-1)[0].item()

    def kernel(shape: list[int]) -> list[Any]:
        check_size(shape)
        return [value] * shape[0]

    return kernel, Host(-1)


@host_operator("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin")
def _reduce(node: Node, forms: Sequence[Host]) -> Built:
    axes = node.attribute("axes") or (node.has_input(1) and forms[1].length != 0)
    if not forms[0].length or (not axes and node.attribute("noop_with_empty_axes", 0)):
        return None
    functions: dict[str, Callable[..., Any]] = {
        "ReduceProd": math.prod,
        "ReduceSum": sum,
        "ReduceMax": max,
        "ReduceMin": min,
    }
    apply = _rounded(functions[node.operator], node)
    if node.attribute("keepdims", 1):
        return lambda v, axes=None: [apply(v)], Host(1)
    return lambda v, axes=None: apply(v), NUMBER


@host_operator("Size")
def _size(node: Node, forms: Sequence[Host]) -> Built:
    return (len, NUMBER) if forms[0].is_list else None


@host_operator("Shape")
def _shape(node: Node, forms: Sequence[Host]) -> Built:
    start, end = node.attribute("start", 0), node.attribute("end")
    length = 1 if forms[0].is_list else 0
    return lambda v: [len(v)][start:end] if length else [], Host(len(range(length)[start:end]))
