"""A protobuf message walked before it is parsed: how much of memory and stack it would take.

An empty message takes two bytes of a file and a hundred of memory, so a file of a gigabyte could take all
that there is. The walk knows ONNX's messages from their descriptors, counts what would become an object and
jumps over values.
"""

from __future__ import annotations

from typing import Any

import onnx

from prune_engine.errors import ModelTooLargeError

MOST_FIELDS = 4_000_000
"""Fields of all messages in a file; the largest language models have a tenth of that."""

LONGEST_NAME = 16_384
"""Bytes of a name. Documentation and metadata may be longer."""

_DEEPEST = 100  # messages in messages; protobuf's own parser goes no further
_LONG = frozenset(("doc_string", "value", "s", "strings", "string_data", "raw_data"))
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_Fields = dict[int, tuple[str, "_Fields | None"]]


def check_message(data: bytes) -> None:
    """Refuse a file that would become too many objects, or that is nested too deep.

    What is no message at all ends the walk: the parser says what is wrong with it.

    Raises:
        ModelTooLargeError: more than `MOST_FIELDS` fields, names of more than `LONGEST_NAME` bytes.
    """
    fields = 0
    waiting: list[tuple[int, int, int, _Fields]] = [(0, len(data), 0, _MODEL)]
    while waiting:
        at, end, depth, known = waiting.pop()
        while at < end:
            fields += 1
            if fields > MOST_FIELDS:
                raise ModelTooLargeError(
                    f"The ONNX file has more than {MOST_FIELDS:,} fields, which no model has."
                )
            key, at = _varint(data, at, end)
            wire = key & 7
            if wire == _LENGTH:
                length, at = _varint(data, at, end)
                if length > end - at:
                    return
                name, inner = known.get(key >> 3, ("", None))
                if inner is not None:
                    if depth >= _DEEPEST:
                        raise ModelTooLargeError(
                            f"The ONNX file is nested more than {_DEEPEST} levels deep, which no model is."
                        )
                    waiting.append((at, at + length, depth + 1, inner))
                elif name and name not in _LONG and length > LONGEST_NAME:
                    raise ModelTooLargeError(
                        f"The ONNX file has a {name!r} of {length:,} bytes; names have at most "
                        f"{LONGEST_NAME:,}."
                    )
                at += length
            elif wire == _VARINT:
                _, at = _varint(data, at, end)
            elif wire in (_FIXED32, _FIXED64):
                at += 4 if wire == _FIXED32 else 8
            else:
                return


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    return value, at


def _fields_of(descriptor: Any, done: dict[str, _Fields]) -> _Fields:
    """Number -> (name of a text, "" of other values; the fields of a message), for messages and texts."""
    if descriptor.full_name in done:
        return done[descriptor.full_name]
    fields: _Fields = {}
    done[descriptor.full_name] = fields
    for field in descriptor.fields:
        if field.message_type is not None:
            fields[field.number] = ("", _fields_of(field.message_type, done))
        elif field.type in (field.TYPE_STRING, field.TYPE_BYTES):
            fields[field.number] = (field.name, None)
    return fields


_MODEL = _fields_of(onnx.ModelProto.DESCRIPTOR, {})
