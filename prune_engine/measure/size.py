"""Bytes of a model, as it is and compressed."""

from __future__ import annotations

import zlib

import onnx

GZIP_LEVEL = 6
_GZIP_FORMAT = 16 + zlib.MAX_WBITS
_CHUNK = 1 << 22


def measure_size(model: onnx.ModelProto | bytes) -> tuple[int, int]:
    """(bytes of the ONNX file, bytes after gzip at level 6). Zeros make a difference only to the second."""
    contents = model if isinstance(model, bytes) else model.SerializeToString()
    compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_FORMAT)
    compressed = 0
    view = memoryview(contents)
    for start in range(0, len(view), _CHUNK):
        compressed += len(compressor.compress(view[start : start + _CHUNK]))
    return len(contents), compressed + len(compressor.flush())
