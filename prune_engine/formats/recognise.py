"""What a file is, by its first bytes and, for archives, their table of contents. Loads nothing."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from prune_engine.errors import ModelEmptyError, ModelError, ModelFormatError

_SEND_ONNX = (
    "Send an ONNX file (torch.onnx.export, tf2onnx, skl2onnx) or a TorchScript archive (torch.jit.save)."
)
_FROM_TORCH = (
    "It needs the class of the model to be loaded, and unpickling runs code. "
    "Load it in your own program, then send torch.onnx.export(model, example, 'model.onnx') "
    "or torch.jit.trace(model, example).save('model.pt')."
)
_MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x89PNG", "a PNG image", _SEND_ONNX),
    (0, b"\xff\xd8\xff", "a JPEG image", _SEND_ONNX),
    (0, b"GIF8", "a GIF image", _SEND_ONNX),
    (0, b"%PDF", "a PDF document", _SEND_ONNX),
    (0, b"\x1f\x8b", "a gzip file", "Unpack it and send the model in it."),
    (0, b"BZh", "a bzip2 file", "Unpack it and send the model in it."),
    (0, b"\xfd7zXZ", "an xz file", "Unpack it and send the model in it."),
    (0, b"7z\xbc\xaf", "a 7z archive", "Unpack it and send the model in it."),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file", "Unpack it and send the model in it."),
    (257, b"ustar", "a tar archive", "Unpack it and send the model in it."),
    (
        0,
        b"\x89HDF",
        "an HDF5 file (Keras weights or model)",
        "Convert it with tf2onnx and send the ONNX file.",
    ),
    (4, b"TFL3", "a TensorFlow Lite model", "Convert it with tf2onnx --tflite and send the ONNX file."),
    (4, b"ORTM", "a model in onnxruntime's own format", "Send the ONNX file that it was made from."),
    (0, b"GGUF", "a GGUF model", _SEND_ONNX),
    (0, b"\x93NUMPY", "a numpy array", "Data goes into the field `dataset`. " + _SEND_ONNX),
    (0, b"\x7fELF", "a program", _SEND_ONNX),
    (
        0,
        b"version https://git-lfs",
        "a Git LFS pointer, not the file itself",
        "Run `git lfs pull` and send the model.",
    ),
    (0, b"PAR1", "a Parquet table", "Data goes into the field `dataset`. " + _SEND_ONNX),
)
_PICKLE_STARTS = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))


def recognise(path: Path) -> Literal["onnx", "torchscript"]:
    """The format of a model file. "onnx" means: nothing else, and it begins as a protobuf message could.

    Raises:
        ModelEmptyError: no bytes.
        ModelFormatError: something else; the message names it and says what to send.
        ModelError: an archive that is cut off.
    """
    size = path.stat().st_size
    if size == 0:
        raise ModelEmptyError(
            "The model file is empty. Check that the upload names a file: -F model=@model.onnx"
        )
    with path.open("rb") as stream:
        head = stream.read(512)
    if head.startswith(b"PK"):
        return _archive(path)
    for offset, magic, what, instead in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            raise _foreign(what, instead)
    if head.startswith(_PICKLE_STARTS):
        raise _foreign("a Python pickle (an old torch.save or joblib file)", _FROM_TORCH)
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= length < max(size, 2):
        raise _foreign(
            "a safetensors file, which holds weights but no graph",
            "Load it into its model and export that. " + _SEND_ONNX,
        )
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        raise _foreign("an HTML page", "A download may have given a login or error page. " + _SEND_ONNX)
    if text.startswith((b"<?xml", b"<net")):
        raise _foreign("an XML file (OpenVINO?)", _SEND_ONNX)
    if text.startswith((b"{", b"[")):
        raise _foreign("a JSON file", _SEND_ONNX)
    if _is_text(head):
        raise _foreign("a text file", _SEND_ONNX)
    return "onnx"


def _foreign(what: str, instead: str) -> ModelFormatError:
    return ModelFormatError(
        f"The model file is {what}, which is no model format that Prunery reads. {instead}"
    )


def _is_text(head: bytes) -> bool:
    return all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head)


def _archive(path: Path) -> Literal["torchscript"]:
    """A zip: TorchScript has `*/constants.pkl` and `*/code/`, torch.save has `*/data.pkl` without them."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(
            "The model file begins as a zip archive (TorchScript?) but its table of contents cannot "
            "be read: it is "
            "cut off or damaged. Send it again."
        ) from error
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "torchscript"
    if any(name == "archive_format" or name.startswith("models/") for name in inner | set(names)):
        raise _foreign(
            "a torch.export archive (.pt2)",
            "Turn it into ONNX: torch.onnx.export(torch.export.load(path), dynamo=True, "
            "optimize=False).save('model.onnx')",
        )
    if "data.pkl" in inner:
        raise _foreign("a torch.save file (a state_dict or a pickled module)", _FROM_TORCH)
    if "config.json" in names and any(name.endswith(".h5") for name in names):
        raise _foreign("a Keras model", "Convert it with tf2onnx and send the ONNX file.")
    if names and all(name.endswith(".npy") for name in names):
        raise _foreign("an .npz of arrays", "Data goes into the field `dataset`. " + _SEND_ONNX)
    raise _foreign(
        "a zip archive without a TorchScript model", "Unpack it and send the model in it. " + _SEND_ONNX
    )
