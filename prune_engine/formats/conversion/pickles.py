"""The pickles of torch's archives, walked without unpickling: names on a list, tensors that are there.

torch reads them with an interpreter of its own that knows a few instructions. These are followed here, over
plain values: what they name is compared with what torch writes for tensors and modules, and what a tensor
claims to be with the bytes of its member.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prune_engine.errors import ModelError, ModelUnsafeError

_ITEM_BYTES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1,
    "Bool": 1, "ComplexDouble": 16, "ComplexFloat": 8,
}  # fmt: skip
_NAMES = re.compile(
    r"collections OrderedDict"
    r"|torch\._utils _rebuild_(?:tensor(?:_v2)?|parameter)"
    r"|torch\._tensor _rebuild_from_type_v2|torch Tensor|torch\.nn\.parameter Parameter"
    r"|torch\.jit\._pickle (?:build_(?:int|tensor|double|bool)list|restore_type_tag)"
    r"|torch device"
    r"|builtins complex"
    rf"|torch (?:{'|'.join(_ITEM_BYTES)})Storage"
    r"|__torch__(?!\.torch\.classes\b)(?:\.\w+)* \w+"
)
_REBUILD = re.compile(r"torch\._utils _rebuild_tensor(?:_v2)?")
_PUSHED = frozenset(("NONE", "NEWTRUE", "NEWFALSE"))
_NUMBERS = frozenset(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"))
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_EMPTY = frozenset(("EMPTY_LIST", "EMPTY_DICT"))
_TO_MARK = frozenset(("APPENDS", "SETITEMS"))
_TAKEN = {"APPEND": 1, "SETITEM": 2, "BUILD": 1}
_MOST_STRETCHED = (
    8  # elements of a view over those of its storage: expanded views are larger than their bytes
)


@dataclass(frozen=True)
class _Name:
    """A class or function that the pickle names, as "module name"."""

    said: str


@dataclass(frozen=True)
class _Storage:
    """Elements that lie in a member."""

    elements: int


_THING = object()
_MARK = object()


def scan_pickle(content: bytes, where: str, tensors: str, sizes: Mapping[str, int]) -> None:
    """Walks one pickle.

    Args:
        content: the pickle.
        where: its name, for messages.
        tensors: the folder of its tensors in the archive: "data".
        sizes: bytes of every member.

    Raises:
        ModelUnsafeError: a class or function, or an instruction, that torch does not write.
        ModelError: a tensor that is not there or larger than its bytes, or no sound pickle.
    """
    try:
        _Walk(where, tensors, sizes).run(content)
    except (ModelError, ModelUnsafeError):
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ModelError(f"{where} in the archive is damaged ({error}). Send it again.") from None


class _Walk:
    def __init__(self, where: str, tensors: str, sizes: Mapping[str, int]) -> None:
        self.where = where
        self.tensors = tensors
        self.sizes = sizes
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, content: bytes) -> None:
        for operation, argument, at in pickletools.genops(content):
            self._step(operation.name, argument, at or 0)

    def _step(self, name: str, argument: Any, at: int) -> None:
        stack = self.stack
        if name in _NUMBERS:
            stack.append(argument)
        elif name in _PUSHED:
            stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "TUPLE":
            stack.append(tuple(self._to_mark()))
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name in _TUPLES:
            stack.append(tuple(self._pop(_TUPLES[name])))
        elif name in _EMPTY:
            stack.append(_THING)
        elif name in _TO_MARK:
            self._to_mark()
        elif name in _TAKEN:
            self._pop(_TAKEN[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "GLOBAL":
            stack.append(self._named(argument, at))
        elif name in ("REDUCE", "NEWOBJ"):
            made, arguments = self._pop(2)
            stack.append(self._made(made, arguments))
        elif name == "BINPERSID":
            stack.append(self._stored(*self._pop(1)))
        elif name not in ("PROTO", "STOP"):
            raise ModelUnsafeError(
                f"{self.where} in the archive has the pickle instruction {name} (at byte {at}), "
                "which torch does not write for a model. Send an ONNX export of the model instead."
            )

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("it takes more than there is")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def _to_mark(self) -> list[Any]:
        taken: list[Any] = []
        while (top := self.stack.pop()) is not _MARK:
            taken.append(top)
        return taken[::-1]

    def _named(self, said: str, at: int) -> _Name:
        if not _NAMES.fullmatch(said):
            named = ".".join(said.split(" "))[:100]
            raise ModelUnsafeError(
                f"{self.where} in the archive names {named} (at byte {at}), which is no part of "
                "a plain model. Send an ONNX export of the model instead."
            )
        return _Name(said)

    def _made(self, made: Any, arguments: Any) -> object:
        if not isinstance(made, _Name):
            raise ValueError("it calls what is no class")
        if made.said == "torch._tensor _rebuild_from_type_v2":
            self._made(arguments[0], arguments[2])
        if _REBUILD.fullmatch(made.said):
            self._check_tensor(*arguments[:4])
        return _THING

    def _stored(self, said: Any) -> _Storage:
        kind, storage, key, _, elements = said
        if kind != "storage" or not isinstance(storage, _Name) or not storage.said.endswith("Storage"):
            raise ValueError("it refers to what is no storage")
        member = f"{self.tensors}/{key}"
        size = self.sizes.get(member)
        if size is None:
            raise ModelError(f"The archive lacks {member}, the values of a tensor. Send it again.")
        item = _ITEM_BYTES[storage.said.removeprefix("torch ").removesuffix("Storage")]
        if not 0 <= elements * item <= size:
            raise ModelError(
                f"{self.where} in the archive says that {member} has {elements} values of {item} "
                f"bytes; it has {size} bytes. Send it again."
            )
        return _Storage(elements)

    def _check_tensor(self, storage: Any, offset: Any, shape: Any, strides: Any) -> None:
        """Compares the values that shape and strides lead to with those that are there."""
        if not isinstance(storage, _Storage) or len(shape) != len(strides):
            raise ValueError("a tensor without values")
        if any(type(number) is not int or number < 0 for number in (offset, *shape, *strides)):
            raise ValueError(f"a tensor of shape {shape!r:.100}")
        count = math.prod(shape)
        reach = offset + 1 + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
        if count and (reach > storage.elements or count > _MOST_STRETCHED * max(storage.elements, 2**15)):
            raise ModelError(
                f"{self.where} in the archive has a tensor of shape {list(shape)}, strides "
                f"{list(strides)} and offset {offset}, of which only {storage.elements} values are there. "
                "Send it again."
            )
