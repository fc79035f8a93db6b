"""One rule an operator: the shapes of its results from those of its inputs, None where a size is not known.

A rule may raise whatever wrong values make Python raise; then nothing is known of the results. What an
operator has no rule for is of unknown shape too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto

from prune_engine.formats.graph import attribute_value

Sizes = tuple[int | None, ...]
Numbers = Callable[[str], "np.ndarray[Any, Any] | None"]
Rule = Callable[["Asked"], Sequence["Sizes | None"]]


class UnknownError(ValueError):
    """A shape that a rule needs is not known."""


@dataclass(frozen=True)
class Asked:
    """A node, and what is known of its inputs."""

    node: NodeProto
    shapes: Mapping[str, Sizes | None]
    numbers: Numbers
    opset: int

    def has(self, place: int) -> bool:
        """Whether the node has an input there."""
        return place < len(self.node.input) and bool(self.node.input[place])

    def shape(self, place: int = 0) -> Sizes:
        """The shape of an input.

        Raises:
            UnknownError: not even its rank is known.
        """
        found = self.shapes.get(self.node.input[place]) if self.has(place) else None
        if found is None:
            raise UnknownError
        return found

    def known(self, place: int) -> list[Any]:
        """The values of an input, flat.

        Raises:
            UnknownError: they are not known.
        """
        found = self.numbers(self.node.input[place]) if self.has(place) else None
        if found is None:
            raise UnknownError
        values: list[Any] = found.reshape(-1).tolist()
        return values

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute."""
        return next((attribute_value(a) for a in self.node.attribute if a.name == name), default)

    def listed(self, name: str, place: int) -> list[Any]:
        """What older opsets have as an attribute and newer ones as an input."""
        said = self.attribute(name)
        return list(said) if said is not None else self.known(place)


RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Puts a rule on the list."""

    def register(found: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, found))
        return found

    return register


@rule(
    "Identity", "Cast", "CastLike", "Dropout", "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu",
    "Gelu", "Mish", "HardSwish", "HardSigmoid", "Swish", "Sigmoid", "Tanh", "Softplus", "Softsign",
    "Softmax", "LogSoftmax", "Hardmax", "Erf", "Sqrt", "Exp", "Log", "Neg", "Abs", "Reciprocal", "Clip",
    "Floor", "Ceil", "Round", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh",
    "Acosh", "Atanh", "Sign", "Not", "IsNaN", "IsInf", "BatchNormalization", "InstanceNormalization",
    "GroupNormalization", "LayerNormalization", "LpNormalization", "RMSNormalization",
    "MeanVarianceNormalization", "LRN", "Trilu", "CumSum", "ReverseSequence", "QuantizeLinear",
    "DequantizeLinear", "Bernoulli", "RandomNormalLike", "RandomUniformLike", "EyeLike",
    "ScatterElements", "ScatterND", "Scatter", "ThresholdedRelu", "Shrink", "TensorScatter", "FastGelu",
    "QuickGelu", "BiasGelu",
)  # fmt: skip
def _same(asked: Asked) -> Sequence[Sizes | None]:
    return (asked.shape(),)


@rule(
    "Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mean", "Mod", "Where", "And", "Or", "Xor",
    "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "BitShift", "BitwiseAnd", "BitwiseOr",
    "BitwiseXor",
)  # fmt: skip
def _elementwise(asked: Asked) -> Sequence[Sizes | None]:
    return (broadcast([asked.shape(place) for place in range(len(asked.node.input))]),)


def broadcast(shapes: Sequence[Sizes]) -> Sizes:
    """What shapes become together; a size above 1 holds whatever the unknown ones are."""
    rank = max(map(len, shapes))
    wide = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(_together(sizes) for sizes in zip(*wide, strict=True))


def _together(sizes: Sequence[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    if 0 in known:
        return 0
    largest = max(known, default=1)
    return None if largest == 1 and None in sizes else largest


def _numbers_to_shape(values: Sequence[Any]) -> Sizes:
    return tuple(int(value) if value is not None and value >= 0 else None for value in values)


@rule("ConstantOfShape")
def _constant_of_shape(asked: Asked) -> Sequence[Sizes | None]:
    return (_numbers_to_shape(asked.known(0)),)


@rule("RandomNormal", "RandomUniform")
def _random(asked: Asked) -> Sequence[Sizes | None]:
    return (_numbers_to_shape(asked.attribute("shape", [])),)


@rule("Expand")
def _expand(asked: Asked) -> Sequence[Sizes | None]:
    return (broadcast([asked.shape(), _numbers_to_shape(asked.known(1))]),)


@rule("Tile")
def _tile(asked: Asked) -> Sequence[Sizes | None]:
    return (tuple(_times(n, r) for n, r in zip(asked.shape(), asked.known(1), strict=True)),)


def _times(size: int | None, count: float) -> int:
    return int((1 if size is None else size) * max(count, 0))


@rule("Range")
def _range(asked: Asked) -> Sequence[Sizes | None]:
    start, limit, delta = (asked.known(place)[0] for place in range(3))
    return ((max(math.ceil((limit - start) / delta), 0),),)


@rule("HannWindow", "HammingWindow", "BlackmanWindow")
def _window(asked: Asked) -> Sequence[Sizes | None]:
    return (_numbers_to_shape(asked.known(0)),)


@rule("MelWeightMatrix")
def _mel(asked: Asked) -> Sequence[Sizes | None]:
    return ((asked.known(1)[0] // 2 + 1, asked.known(0)[0]),)


@rule("OneHot")
def _one_hot(asked: Asked) -> Sequence[Sizes | None]:
    shape = list(asked.shape())
    axis = asked.attribute("axis", -1)
    shape.insert(axis % (len(shape) + 1), int(asked.known(1)[0]))
    return (tuple(shape),)


@rule("Pad")
def _pad(asked: Asked) -> Sequence[Sizes | None]:
    shape, pads = asked.shape(), asked.listed("paddings" if asked.opset < 2 else "pads", 1)
    axes = [axis % len(shape) for axis in asked.known(3)] if asked.has(3) else list(range(len(shape)))
    before, after = pads[: len(axes)], pads[len(axes) :]
    grown = list(shape)
    for axis, left, right in zip(axes, before, after, strict=True):
        grown[axis] = max((1 if grown[axis] is None else grown[axis] or 0) + left + right, 0)
    return (tuple(grown),)


@rule("Resize", "Upsample")
def _resize(asked: Asked) -> Sequence[Sizes | None]:
    shape = asked.shape()
    axes = [axis % len(shape) for axis in asked.attribute("axes", range(len(shape)))]
    grown = list(shape)
    if asked.has(3):
        for axis, size in zip(axes, asked.known(3), strict=True):
            grown[axis] = int(size)
        return (tuple(grown),)
    said = asked.attribute("scales")
    scales = (
        said
        if said is not None
        else asked.known(1 if asked.opset < 11 or asked.node.op_type == "Upsample" else 2)
    )
    for axis, scale in zip(axes, scales, strict=True):
        grown[axis] = _times(grown[axis], scale)
    return (tuple(grown),)


@rule("Shape")
def _shape(asked: Asked) -> Sequence[Sizes | None]:
    return ((len(asked.shape()[asked.attribute("start", 0) : asked.attribute("end")]),),)


@rule("Size")
def _size(asked: Asked) -> Sequence[Sizes | None]:
    return ((),)


@rule("NonZero")
def _non_zero(asked: Asked) -> Sequence[Sizes | None]:
    return ((len(asked.shape()), None),)


@rule("Reshape")
def _reshape(asked: Asked) -> Sequence[Sizes | None]:
    old, wanted = asked.shape(), asked.listed("shape", 1)
    if not asked.attribute("allowzero", 0):
        wanted = [old[place] if size == 0 else size for place, size in enumerate(wanted)]
    if -1 in wanted and None not in old and None not in wanted:
        rest = -math.prod(wanted)
        wanted[wanted.index(-1)] = math.prod(n for n in old if n is not None) // rest if rest else 0
    return (_numbers_to_shape(wanted),)


@rule("Flatten")
def _flatten(asked: Asked) -> Sequence[Sizes | None]:
    shape, axis = asked.shape(), asked.attribute("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return ((_product(shape[:axis]), _product(shape[axis:])),)


def _product(sizes: Sequence[int | None]) -> int | None:
    return None if None in sizes else math.prod(n for n in sizes if n is not None)


@rule("Transpose")
def _transpose(asked: Asked) -> Sequence[Sizes | None]:
    shape = asked.shape()
    return (tuple(shape[axis] for axis in asked.attribute("perm") or reversed(range(len(shape)))),)


@rule("Squeeze")
def _squeeze(asked: Asked) -> Sequence[Sizes | None]:
    shape = asked.shape()
    axes = {axis % len(shape) for axis in asked.listed("axes", 1)}
    return (tuple(size for axis, size in enumerate(shape) if axis not in axes),)


@rule("Unsqueeze")
def _unsqueeze(asked: Asked) -> Sequence[Sizes | None]:
    shape, axes = list(asked.shape()), asked.listed("axes", 1)
    for axis in sorted(axis % (len(shape) + len(axes)) for axis in axes):
        shape.insert(axis, 1)
    return (tuple(shape),)


@rule("Concat")
def _concat(asked: Asked) -> Sequence[Sizes | None]:
    shapes = [asked.shape(place) for place in range(len(asked.node.input))]
    axis = asked.attribute("axis", 1) % len(shapes[0])
    joined = [_together([shape[place] for shape in shapes]) for place in range(len(shapes[0]))]
    joined[axis] = sum(1 if shape[axis] is None else shape[axis] or 0 for shape in shapes)
    return (tuple(joined),)


@rule("Slice")
def _slice(asked: Asked) -> Sequence[Sizes | None]:
    shape = asked.shape()
    starts, ends = asked.listed("starts", 1), asked.listed("ends", 2)
    axes = asked.attribute("axes") or (asked.known(3) if asked.has(3) else range(len(starts)))
    steps = asked.known(4) if asked.has(4) else [1] * len(starts)
    cut = list(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = cut[axis]
        cut[axis] = None if size is None else len(range(size)[_bound(start) : _bound(end) : step])
    return (tuple(cut),)


def _bound(value: int) -> int:
    return max(min(value, 2**40), -(2**40))


@rule("Split")
def _split(asked: Asked) -> Sequence[Sizes | None]:
    shape, count = asked.shape(), len(asked.node.output)
    axis = asked.attribute("axis", 0) % len(shape)
    sizes = asked.listed("split", 1) if asked.attribute("split") or asked.has(1) else [None] * count
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


@rule("Gather")
def _gather(asked: Asked) -> Sequence[Sizes | None]:
    shape, axis = asked.shape(), asked.attribute("axis", 0)
    axis %= len(shape)
    return ((*shape[:axis], *asked.shape(1), *shape[axis + 1 :]),)


@rule("GatherElements")
def _gather_elements(asked: Asked) -> Sequence[Sizes | None]:
    return (asked.shape(1),)


@rule("GatherND")
def _gather_nd(asked: Asked) -> Sequence[Sizes | None]:
    shape, places, batch = asked.shape(), asked.shape(1), asked.attribute("batch_dims", 0)
    depth = places[-1]
    return (None,) if depth is None else ((*places[:-1], *shape[batch + depth :]),)


@rule("TopK")
def _top_k(asked: Asked) -> Sequence[Sizes | None]:
    shape, axis = list(asked.shape()), asked.attribute("axis", -1)
    shape[axis] = asked.attribute("k") or int(asked.known(1)[0])
    return (tuple(shape), tuple(shape))


@rule(
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceSumSquare",
)  # fmt: skip
def _reduce(asked: Asked) -> Sequence[Sizes | None]:
    shape = asked.shape()
    axes = asked.listed("axes", 1) if asked.attribute("axes") is not None or asked.has(1) else []
    if not axes:
        if asked.attribute("noop_with_empty_axes", 0):
            return (shape,)
        axes = list(range(len(shape)))
    return (_reduced(shape, axes, asked.attribute("keepdims", 1)),)


@rule("ArgMax", "ArgMin")
def _arg(asked: Asked) -> Sequence[Sizes | None]:
    return (_reduced(asked.shape(), [asked.attribute("axis", 0)], asked.attribute("keepdims", 1)),)


def _reduced(shape: Sizes, axes: Sequence[int], keep: int) -> Sizes:
    gone = {axis % len(shape) for axis in axes}
    return tuple(1 if axis in gone else n for axis, n in enumerate(shape) if keep or axis not in gone)
