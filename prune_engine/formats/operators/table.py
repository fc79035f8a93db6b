"""The operator table: which ONNX operators are known, at which opsets, and how each becomes a torch function.

A family's file registers a *builder* per operator. The builder reads the node's attributes once and returns a
*kernel*: a function of the run-time inputs. Absent optional inputs are None. A node with several outputs
has a kernel that returns a tuple of as many values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

OLDEST_OPSET = 1
NEWEST_OPSET = 28


class NotSupportedError(ValueError):
    """A node uses an option of a known operator that cannot be computed or trained; raised by builders.

    The importer collects these from all nodes into one `UnsupportedOperatorError`.

    Args:
        what: the option, such as "peephole weights".
        instead: what the user can do about it, a sentence; "" where there is nothing.
    """

    def __init__(self, what: str, instead: str = "") -> None:
        super().__init__(what)
        self.what, self.instead = what, instead


Kernel = Callable[..., Any]
Builder = Callable[["Node"], Kernel]
Result = Literal["tensor", "list", "number"]


@dataclass(frozen=True)
class Node:
    """What a builder may know of a node.

    `constants` holds the inputs whose value is known at import, `ranks` the inputs whose rank is,
    `types` those whose ONNX element type is (a tensor may be carried in a wider one),
    `statistics` the inputs that are running statistics which the kernel may update in place.
    `asked_for_nan` says that some node looks for NaN in the first output.
    """

    name: str
    domain: str
    operator: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[int, np.ndarray] = field(default_factory=dict)
    ranks: Mapping[int, int] = field(default_factory=dict)
    types: Mapping[int, int] = field(default_factory=dict)
    statistics: frozenset[int] = frozenset()
    asked_for_nan: bool = False

    def attribute(self, name: str, default: Any = None) -> Any:
        """The attribute's value as Python data, or `default` where the node does not set it."""
        return self.attributes.get(name, default)

    def has_input(self, position: int) -> bool:
        """Whether the optional input at `position` is connected."""
        return position < len(self.inputs) and bool(self.inputs[position])

    def has_output(self, position: int) -> bool:
        """Whether somebody may read the optional output at `position`."""
        return position < len(self.outputs) and bool(self.outputs[position])


@dataclass(frozen=True)
class Operator:
    """A row of the table: one operator over one range of opsets.

    Args:
        since, until: first and last opset of the model at which this row holds.
        host: positions of inputs that the kernel takes as Python numbers or lists (shapes, axes, sizes).
        scalars: whether Python numbers may stand for rank-0 tensors among the inputs.
        training: the kernel's first argument is the module's training flag.
        device: the kernel's first argument is the device to create tensors on.
        result: what the kernel returns; "list" and "number" are Python values.
        folds: whether the node may be computed at import where all its inputs are known.
    """

    name: str
    domain: str
    since: int
    until: int
    build: Builder
    host: tuple[int, ...] = ()
    scalars: bool = False
    training: bool = False
    device: bool = False
    result: Result = "tensor"
    folds: bool = True


_TABLE: dict[tuple[str, str], list[Operator]] = {}


def operator(
    *names: str,
    since: int = OLDEST_OPSET,
    until: int = NEWEST_OPSET,
    domain: str = "",
    host: tuple[int, ...] = (),
    scalars: bool = False,
    training: bool = False,
    device: bool = False,
    result: Result = "tensor",
    folds: bool = True,
) -> Callable[[Builder], Builder]:
    """Registers a builder for `names` at opsets `since` to `until`; the options are those of `Operator`."""

    def register(build: Builder) -> Builder:
        for name in names:
            row = Operator(name, domain, since, until, build, host, scalars, training, device, result, folds)
            rows = _TABLE.setdefault((domain, name), [])
            for other in rows:
                if other.since <= until and since <= other.until:
                    raise ValueError(f"{name}: two rows for opset {max(other.since, since)}")
            rows.append(row)
        return build

    return register


def function(name: str, kernel: Kernel, *, since: int = OLDEST_OPSET, scalars: bool = False) -> None:
    """Registers an operator without attributes: its kernel is the same for every node."""
    operator(name, since=since, scalars=scalars)(lambda node: kernel)


def find(domain: str, name: str, opset: int) -> Operator | None:
    """The row for an operator at a model's opset, or None where the table has none."""
    for row in _TABLE.get((domain, name), []):
        if row.since <= opset <= row.until or (domain != "" and opset >= row.since):
            return row
    return None


def rows() -> list[Operator]:
    """Every row, by domain, name and opset."""
    return sorted(
        (row for group in _TABLE.values() for row in group), key=lambda r: (r.domain, r.name, r.since)
    )
