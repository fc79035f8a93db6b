"""A walk over the top level of an ONNX file while it streams by: tags and lengths, never contents.

`onnx.proto`: `ModelProto` is a protobuf message. Each of its fields starts with a varint tag (number << 3 |
wire type); a length-delimited field says how long it is, so that the walk can jump over the graph without
looking into it. A file that was cut short ends inside a field, and a file that is something else does
not get far.
"""

from __future__ import annotations

from typing import Final

from prune_engine.errors import ModelEmptyError, ModelError, ModelFormatError
from prune_engine.magic import HEAD_BYTES, SEND_A_MODEL, Foreign, foreign

_VARINT: Final = 0
_FIXED64: Final = 1
_LENGTH: Final = 2
_FIXED32: Final = 5

_GRAPH: Final = 7
_OPSET_IMPORT: Final = 8
# ModelProto's fields: number -> wire type.
_FIELDS: Final = {
    1: _VARINT,  # ir_version
    2: _LENGTH,  # producer_name
    3: _LENGTH,  # producer_version
    4: _LENGTH,  # domain
    5: _VARINT,  # model_version
    6: _LENGTH,  # doc_string
    _GRAPH: _LENGTH,
    _OPSET_IMPORT: _LENGTH,
    14: _LENGTH,  # metadata_props
    20: _LENGTH,  # training_info
    25: _LENGTH,  # functions
    26: _LENGTH,  # configuration
}
_MAX_VARINT: Final = 10
# Real files have tens of fields at the top (metadata and functions repeat); the walk is not to be kept busy.
_MAX_FIELDS: Final = 100_000


class OnnxWalk:
    """Feed it the file chunk by chunk, then ask `finish` whether it can be an ONNX model."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._position = 0  # bytes seen
        self._skip = 0  # bytes of the current field still to jump over
        self._varint = 0
        self._varint_bytes = 0
        self._tag: int | None = None  # the tag whose value or length is being read
        self._field_start = 0
        self._seen: set[int] = set()
        self._fields = 0
        self._broken: str | None = None

    def feed(self, chunk: bytes | memoryview) -> None:
        """Look at the next bytes of the file."""
        if len(self._head) < HEAD_BYTES:
            self._head += chunk[: HEAD_BYTES - len(self._head)]
        at = 0
        while at < len(chunk) and self._broken is None:
            if self._skip:
                step = min(self._skip, len(chunk) - at)
                self._skip -= step
                at += step
            else:
                self._byte(chunk[at], self._position + at)
                at += 1
        self._position += len(chunk)

    @property
    def is_foreign(self) -> bool:
        """Whether what has gone by cannot be the beginning of an ONNX model."""
        return self._broken is not None and not self._seen & {_GRAPH, _OPSET_IMPORT}

    def finish(self, filename: str) -> None:
        """Say whether what went by can be an ONNX model.

        Raises:
            ModelEmptyError: there were no bytes.
            ModelFormatError: it is something else; the message says what, where that is known.
            ModelError: it begins like an ONNX model and ends too early, or has no graph.
        """
        if not self._position:
            raise ModelEmptyError(f"{filename} is empty: 0 bytes came in; check the path after model=@")
        known = foreign(bytes(self._head))
        if known or self.is_foreign:
            raise ModelFormatError(_not_a_model(filename, known))
        if self._broken:
            raise ModelError(f"{filename} is damaged: {self._broken}; export it again")
        if self._skip or self._tag is not None or self._varint_bytes:
            missing = f", {self._skip:,} bytes early" if self._skip else ""
            raise ModelError(
                f"{filename} is truncated: it ends at byte {self._position:,}, within the field that begins "
                f"at byte {self._field_start:,}{missing}; send the whole file"
            )
        if _GRAPH not in self._seen:
            raise ModelError(f"{filename} has no graph: it is no ONNX model, or it was cut short")

    def _byte(self, byte: int, position: int) -> None:
        """Take one byte of a varint: a tag, a value or a length."""
        if self._tag is None and not self._varint_bytes:
            self._field_start = position
        self._varint |= (byte & 0x7F) << (7 * self._varint_bytes)
        self._varint_bytes += 1
        if byte & 0x80:
            if self._varint_bytes == _MAX_VARINT:
                self._broken = f"the number at byte {position - _MAX_VARINT + 1:,} does not end"
            return
        value, self._varint, self._varint_bytes = self._varint, 0, 0
        if self._tag is None:
            self._begin(value)
        else:
            if self._tag & 7 == _LENGTH:
                self._skip = value
            self._tag = None

    def _begin(self, tag: int) -> None:
        """A field begins."""
        number, wire = tag >> 3, tag & 7
        expected = _FIELDS.get(number)
        self._fields += 1
        if self._fields > _MAX_FIELDS:
            self._broken = f"it has more than {_MAX_FIELDS:,} fields at its top level"
        elif number == 0 or wire in (3, 4, 6, 7) or (expected is not None and wire != expected):
            self._broken = f"no ONNX field begins at byte {self._field_start:,}"
        elif expected is None and not self._seen:
            self._broken = f"field {number} at the start is none of an ONNX model's"
        elif wire in (_FIXED64, _FIXED32):
            self._skip = 8 if wire == _FIXED64 else 4
        else:
            self._tag = tag
        self._seen.add(number)


def _not_a_model(filename: str, known: Foreign | None) -> str:
    if known is None:
        return f"{filename} is neither ONNX nor TorchScript nor torch.export. {SEND_A_MODEL}"
    return f"{filename} is {known.what}. {known.for_model}"
