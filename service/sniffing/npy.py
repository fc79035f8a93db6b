"""The header of a .npy array: dtype and shape, read with two regular expressions and never evaluated.

Format: numpy.lib.format. A 16-byte file can ask for 186 GiB, so the shape is compared with the
bytes that are there.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Final

HEADER_BYTES: Final = 16_384
_DESCR = re.compile(r"'descr':\s*'([<>|=]?)([a-zA-Z])([0-9]*)[^']*'")
_SHAPE = re.compile(r"'shape':\s*\(([0-9, ]*)\)")


class NpyDamagedError(ValueError):
    """The bytes are no .npy header; the message says what is wrong."""


@dataclass(frozen=True)
class NpyHeader:
    """`kind` is numpy's: f i u b O U S ...; `data_bytes` follow the header, None for a structured dtype."""

    kind: str
    shape: tuple[int, ...]
    data_bytes: int | None
    header_bytes: int


def inflate_head(data: bytes, method: int, limit: int = HEADER_BYTES) -> bytes:
    """The first bytes of a zip member, at most `limit`, from its stored ones.

    Raises:
        NpyDamagedError: the method is neither stored (0) nor deflated (8), or the bytes do not inflate.
    """
    if method == 0:
        return data[:limit]
    if method != 8:
        raise NpyDamagedError(f"it is compressed with method {method}; use np.savez or np.savez_compressed")
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, limit)
    except zlib.error as error:
        raise NpyDamagedError(f"it does not inflate: {error}") from None


def read_header(head: bytes) -> NpyHeader:
    """Read the header at the start of an array's bytes.

    Raises:
        NpyDamagedError: it is none.
    """
    if head[:6] != b"\x93NUMPY" or len(head) < 12:
        raise NpyDamagedError("it does not begin like a .npy array")
    wide = head[6] >= 2
    length = struct.unpack_from("<L" if wide else "<H", head, 8)[0]
    begin = 12 if wide else 10
    text = head[begin : begin + length].decode("latin-1")
    if len(text) < length:
        raise NpyDamagedError("its header is too long or cut short")
    shape = _SHAPE.search(text)
    if not shape:
        raise NpyDamagedError("its header has no shape")
    sides = tuple(int(side[:20]) for side in re.findall(r"[0-9]+", shape[1]))
    descr = _DESCR.search(text)
    if not descr:
        kind = "O" if re.search(r"'[<>|=]?O\d*'", text) else "V"
        return NpyHeader(kind, sides, None, begin + length)
    kind, width = descr[2], int(descr[3][:9] or 1)
    itemsize = width * 4 if kind == "U" else width
    return NpyHeader(kind, sides, math.prod(sides) * itemsize, begin + length)
