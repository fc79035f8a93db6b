"""Bytes of a model, as it is and compressed."""

from __future__ import annotations

import zlib

import onnx

from prune_engine.formats import storage
from prune_engine.formats.storage import Storage

GZIP_LEVEL = 6
_GZIP_FORMAT = 16 + zlib.MAX_WBITS


def measure_size(model: onnx.ModelProto, layout: Storage | None = None) -> tuple[int, int]:
    """(bytes of the model's files, bytes after gzip at level 6). Zeros make a difference only to the second.

    Args:
        layout: of a model that is more than one file; None: one file, or two over 2 GiB.
    """
    if layout is not None:
        layout = storage.settled(model, layout)
    compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_FORMAT)
    size = compressed = 0
    for piece in storage.pieces(model, layout):
        size += len(piece)
        compressed += len(compressor.compress(piece))
    return size, compressed + len(compressor.flush())
