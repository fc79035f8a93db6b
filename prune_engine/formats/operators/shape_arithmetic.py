"""Shape arithmetic on Python numbers.

The sizes that a graph computes for its Reshapes and Slices stay Python ints and lists: no tensor is made for
them and a GPU is never waited for. A node runs here when all its inputs are numbers of rank 0 or 1.
"""

from __future__ import annotations

import math
import operator as python
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from prune_engine.formats.operators.creation import check_size
from prune_engine.formats.operators.dtypes import FLOATS
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


def build_host(node: Node, forms: Sequence[Host]) -> Built:
    """The kernel and the form of its result, or None where the node must compute with tensors."""
    build = _TABLE.get(node.operator) if node.domain == "" and len(node.outputs) == 1 else None
    return build(node, forms) if build is not None else None


def _broadcast(forms: Sequence[Host]) -> Host:
    lengths = [form.length for form in forms if form.length is not None]
    if not lengths:
        return NUMBER
    return Host(-1 if -1 in lengths else max(lengths))


def _elementwise(apply: Callable[..., Any]) -> HostBuilder:
    def build(node: Node, forms: Sequence[Host]) -> Built:
        form = _broadcast(forms)
        if not form.is_list:
            return apply, form

        def kernel(*values: Any) -> list[Any]:
            length = max(len(v) for v in values if isinstance(v, list))
            columns = [
                v * length if len(v) == 1 else v for v in (v if isinstance(v, list) else [v] for v in values)
            ]
            return [apply(*row) for row in zip(*columns, strict=True)]

        return kernel, form

    return build


def _divide(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int):
        quotient = abs(a) // abs(b)
        return quotient if (a < 0) == (b < 0) else -quotient
    return a / b


_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Add": python.add,
    "Sub": python.sub,
    "Mul": python.mul,
    "Div": _divide,
    "Neg": python.neg,
    "Abs": abs,
    "Floor": lambda a: float(math.floor(a)),
    "Ceil": lambda a: float(math.ceil(a)),
    "Round": lambda a: float(round(a)),
    "Sqrt": math.sqrt,
    "Reciprocal": lambda a: 1.0 / a,
    "Pow": python.pow,
    "Equal": python.eq,
    "Less": python.lt,
    "Greater": python.gt,
    "LessOrEqual": python.le,
    "GreaterOrEqual": python.ge,
    "And": lambda a, b: a and b,
    "Or": lambda a, b: a or b,
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
    return _elementwise(math.fmod if node.attribute("fmod", 0) else python.mod)(node, forms)


@host_operator("Cast")
def _cast(node: Node, forms: Sequence[Host]) -> Built:
    target = node.attribute("to")
    if target in FLOATS:
        return _elementwise(float)(node, forms)
    if target == TensorProto.BOOL:
        return _elementwise(bool)(node, forms)
    if target in (TensorProto.INT64, TensorProto.INT32):
        return _elementwise(int)(node, forms)
    return None


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
    if forms[0].length != 1 or proto is None or proto.data_type in FLOATS:
        return None
    value = to_numpy(proto).reshape(-1)[0].item()

    def kernel(shape: list[int]) -> list[Any]:
        check_size(shape)
        return [value] * shape[0]

    return kernel, Host(-1)


@host_operator("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin")
def _reduce(node: Node, forms: Sequence[Host]) -> Built:
    if not forms[0].is_list:
        return None
    functions: dict[str, Callable[..., Any]] = {
        "ReduceProd": math.prod,
        "ReduceSum": sum,
        "ReduceMax": max,
        "ReduceMin": min,
    }
    apply = functions[node.operator]
    if node.attribute("keepdims", 1):
        return lambda v, axes=None: [apply(v)], Host(1)
    return lambda v, axes=None: apply(v), NUMBER


@host_operator("Size")
def _size(node: Node, forms: Sequence[Host]) -> Built:
    return (len, NUMBER) if forms[0].is_list else None


@host_operator("Shape")
def _shape(node: Node, forms: Sequence[Host]) -> Built:
    if not forms[0].is_list:
        return None
    return lambda v: [len(v)], Host(1)
