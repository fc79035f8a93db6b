"""Files that people send by mistake, told apart by their first bytes, and what to do with each."""

from __future__ import annotations

from typing import Final

_EXPORT = "export the model with torch.onnx.export and send the .onnx file"
_KERAS = "convert the model with tf2onnx and send the .onnx file"

_STARTS: Final[tuple[tuple[bytes, str, str], ...]] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image", ""),
    (b"\xff\xd8\xff", "a JPEG image", ""),
    (b"GIF8", "a GIF image", ""),
    (b"%PDF", "a PDF document", ""),
    (b"\x1f\x8b", "a gzip file", "unpack it and send what is inside"),
    (b"BZh", "a bzip2 file", "unpack it and send what is inside"),
    (b"\xfd7zXZ\x00", "an xz file", "unpack it and send what is inside"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it and send what is inside"),
    (b"\x28\xb5\x2f\xfd", "a zstd file", "unpack it and send what is inside"),
    (b"\x7fELF", "a Linux program", ""),
    (b"MZ", "a Windows program", ""),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras .h5)", _KERAS),
    (b"GGUF", "a GGUF file", _EXPORT),
    (
        b"\x93NUMPY",
        "a NumPy .npy array",
        "send an .npz with x and y: np.savez('data.npz', x=x, y=y)",
    ),
    (b"PAR1", "a Parquet file", "send it as dataset"),
    (b"PK\x03\x04", "a zip archive", ""),
    (b"PK\x05\x06", "an empty zip archive", ""),
    (b"SQLite format 3\x00", "an SQLite database", ""),
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself with git lfs pull"),
    (b"<!DOCTYPE", "an HTML page", "the download that gave it may have failed"),
    (b"<html", "an HTML page", "the download that gave it may have failed"),
)
HEAD_BYTES: Final = 64


def foreign(head: bytes) -> tuple[str, str] | None:
    """What a file is by its first bytes and what to do instead; None when nothing is known of it.

    Args:
        head: the first bytes of the file, `HEAD_BYTES` or all of them.
    """
    for start, name, advice in _STARTS:
        if head.startswith(start):
            return name, advice
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle (torch.save)", _EXPORT
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite file", _KERAS
    if head[8:10] == b'{"' and head[4:8] == b"\x00\x00\x00\x00":
        return "a safetensors file, which has weights but no graph", _EXPORT
    return None
