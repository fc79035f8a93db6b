"""What a file is, by its first bytes or an archive's members, and what to do with what is no model. Light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

PAGE: Final = "docs/models.md"
"""The page that says how to export; its headings are what the advice points to."""

Archive = Literal["bundle", "torchscript", "pt2"]
"""The archives that are models."""

SEND_A_MODEL: Final = (
    "Send an ONNX file, a .zip of one and its data files, a TorchScript archive (torch.jit.save) or a "
    f"torch.export archive (torch.export.save). How to export is in {PAGE}"
)

HEAD_BYTES: Final = 512
"""How much of a file `foreign` wants to see."""

_UNPACK: Final = "Unpack it and send what is inside."
_TORCH: Final = (
    "It has no graph, and loading it needs the class of the model and runs code. Load it in your own program "
    "and export it there: torch.onnx.export(model, example, 'model.onnx') or torch.jit.trace(model, "
    f"example).save('model.pt'). The lines are in {PAGE}#weights-without-a-graph"
)
_TENSORFLOW: Final = (
    f"Convert it with tf2onnx and send the .onnx file; the lines are in {PAGE}#tensorflow-and-keras"
)
_EXPORT: Final = f"How to export a model as ONNX is in {PAGE}"


@dataclass(frozen=True)
class Foreign:
    """A file that is no model: what it is, and what to send where a model or data are asked for.

    Advice is "" where the bytes give no hint.
    """

    what: str
    for_model: str = _EXPORT
    for_data: str = ""


_PICKLE: Final = Foreign(
    "a Python pickle (an old torch.save or joblib file)",
    _TORCH,
    "Send arrays: np.savez('data.npz', x=x, y=y)",
)
_SAFETENSORS: Final = Foreign("a safetensors file, which has weights but no graph", _TORCH)
_HTML: Final = Foreign("an HTML page; the download that gave it may have failed")
_KERAS: Final = Foreign("an HDF5 file (Keras weights or model)", _TENSORFLOW, "Send the arrays in an .npz")
_DATA: Final = f"Data go into the field dataset. {_EXPORT}"

_AT: Final[tuple[tuple[int, bytes, Foreign], ...]] = (
    (0, b"\x89PNG", Foreign("a PNG image", for_data="Send a .zip of image folders")),
    (0, b"\xff\xd8\xff", Foreign("a JPEG image", for_data="Send a .zip of image folders")),
    (0, b"GIF8", Foreign("a GIF image")),
    (0, b"%PDF", Foreign("a PDF document")),
    (0, b"\x1f\x8b", Foreign("a gzip file", _UNPACK, _UNPACK)),
    (0, b"BZh", Foreign("a bzip2 file", _UNPACK, _UNPACK)),
    (0, b"\xfd7zXZ", Foreign("an xz file", _UNPACK, _UNPACK)),
    (0, b"7z\xbc\xaf", Foreign("a 7z archive", _UNPACK, _UNPACK)),
    (0, b"Rar!", Foreign("a RAR archive", _UNPACK, _UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", Foreign("a zstd file", _UNPACK, _UNPACK)),
    (257, b"ustar", Foreign("a tar archive", _UNPACK, _UNPACK)),
    (0, b"\x89HDF", _KERAS),
    (4, b"TFL3", Foreign("a TensorFlow Lite model", _TENSORFLOW)),
    (
        4,
        b"ORTM",
        Foreign("a model in onnxruntime's own format", "Send the ONNX file that it was made from"),
    ),
    (0, b"GGUF", Foreign("a GGUF file")),
    (0, b"ggml", Foreign("a GGML file")),
    (
        0,
        b"\x93NUMPY",
        Foreign("a NumPy .npy array", _DATA, "Send an .npz with x and y: np.savez('data.npz', x=x, y=y)"),
    ),
    (0, b"PAR1", Foreign("a Parquet file", _DATA)),
    (0, b"SQLite format 3", Foreign("an SQLite database", _EXPORT, "Send its table as .csv or .parquet")),
    (0, b"\x7fELF", Foreign("a Linux program")),
    (0, b"MZ", Foreign("a Windows program")),
    (
        0,
        b"version https://git-lfs",
        Foreign(
            "a Git LFS pointer and not the file itself",
            "Fetch the file itself with git lfs pull",
            "Fetch the file itself with git lfs pull",
        ),
    ),
)
_TEXTS: Final[tuple[tuple[bytes, Foreign], ...]] = (
    (b"<!doctype html", _HTML),
    (b"<html", _HTML),
    (b"<?xml", Foreign("an XML file (OpenVINO?)", f"Send the ONNX file that it was made from. {_EXPORT}")),
    (b"<net", Foreign("an OpenVINO model", f"Send the ONNX file that it was made from. {_EXPORT}")),
)


def foreign(head: bytes) -> Foreign | None:
    """What a file is by its first bytes; None when nothing is known of it.

    Args:
        head: the first bytes of the file, `HEAD_BYTES` or all of them.
    """
    for offset, magic, found in _AT:
        if head[offset : offset + len(magic)] == magic:
            return found
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return _PICKLE
    if head[8:10] == b'{"' and head[4:8] == b"\x00\x00\x00\x00":
        return _SAFETENSORS
    text = head.lstrip().lower()
    return next((found for start, found in _TEXTS if text.startswith(start)), None)


def kind_of_archive(names: list[str]) -> Archive | tuple[str, str]:
    """The format of a zip with these members, or what it is instead and what to do about it.

    TorchScript has `*/constants.pkl` and `*/code/`, torch.export `*/archive_format` and `*/models/`,
    torch.save `*/data.pkl` without those.
    """
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "torchscript"
    if "models/model.json" in inner:
        return "pt2"
    bundle = any(name.lower().endswith(".onnx") for name in names)
    exported = any(name.startswith(("models/", "data/aotinductor/")) for name in inner) and not bundle
    if exported or "archive_format" in inner:
        return "a torch.export archive without a program named 'model'", "Send what torch.export.save writes"
    if "serialized_exported_program.json" in names:
        return (
            "a torch.export archive of torch 2.7 or older",
            "Load and save it with a newer torch (torch.export.save(torch.export.load(path), path)), or "
            "send ONNX",
        )
    if bundle:
        return "bundle"
    if "data.pkl" in inner:
        return (
            "a torch.save file (a state_dict or a pickled module), which has no graph",
            "Load it in your own program and export it there: torch.onnx.export(model, example, "
            "'model.onnx') or "
            "torch.jit.trace(model, example).save('model.pt'). The lines are in "
            f"{PAGE}#weights-without-a-graph",
        )
    if "config.json" in names and any(name.endswith(".h5") for name in names):
        return (
            "a Keras model",
            f"Convert it with tf2onnx and send the .onnx file; the lines are in {PAGE}#tensorflow-and-keras",
        )
    if any(name.endswith("saved_model.pb") for name in names):
        return (
            "a TensorFlow SavedModel",
            f"Convert it with tf2onnx and send the .onnx file; the lines are in {PAGE}#tensorflow-and-keras",
        )
    if names and all(name.endswith(".npy") for name in names):
        return "an .npz of arrays", f"Data go into the field dataset. {SEND_A_MODEL}"
    if any(name.endswith(".safetensors") for name in names):
        return "a zip archive of safetensors, which have weights but no graph", (
            f"Load them into their model and export that; the lines are in {PAGE}#weights-without-a-graph"
        )
    return "a zip archive without a model", f"{SEND_A_MODEL}#data-files-and-models-over-2-gb"
