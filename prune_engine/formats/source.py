"""`read_model`: the file that a user sent, as one ONNX model in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx

from prune_engine.formats import storage
from prune_engine.formats.bundle import read_bundle, write_bundle
from prune_engine.formats.conversion.process import InputShapes
from prune_engine.formats.conversion.pt2 import convert_pt2
from prune_engine.formats.conversion.torchscript import convert_torchscript
from prune_engine.formats.onnx_file import check_model, parse_onnx
from prune_engine.formats.recognise import recognise
from prune_engine.formats.storage import Storage


@dataclass(frozen=True)
class SourceModel:
    """A model as it came, and as ONNX.

    Args:
        proto: the whole model, without external data: the user's own graph, or the exported one.
        format: of what was sent; a zip of an ONNX file and its data files is "onnx".
        route: how it became ONNX: "as sent", or the exporter that was used.
        filename: the user's name of the file.
        sha256: of the file as it was sent.
        bytes: of the file as it was sent.
        storage: how the files were laid out where the model came as a zip; None for a single file.
    """

    proto: onnx.ModelProto
    format: Literal["onnx", "torchscript", "pt2"]
    route: str
    filename: str
    sha256: str
    bytes: int
    warnings: tuple[str, ...] = ()
    storage: Storage | None = None


def read_model(
    path: Path,
    *,
    filename: str | None = None,
    candidate_shapes: Sequence[InputShapes] = (),
    input_specs: Mapping[str, tuple[Sequence[int | str | None], str]] | None = None,
) -> SourceModel:
    """Reads an ONNX file, a zip of one with its data files, a TorchScript or a torch.export archive; which of
    them it is, its content says.

    Args:
        path: the file. Only this file is read, whatever it refers to.
        filename: the user's name for it, if `path` has another.
        candidate_shapes: for TorchScript, which does not know its input shapes: tried in order until one
        runs.
        input_specs: for TorchScript: the shape and dtype of each argument, instead of candidates.

    Raises:
        ModelEmptyError, ModelFormatError, ModelUnsafeError, ExternalDataError, ConversionError: as they say.
        ModelError: cut off or damaged.
    """
    kind = recognise(path)
    name, size = filename or path.name, path.stat().st_size
    if kind == "onnx":
        data = path.read_bytes()
        with ThreadPoolExecutor(1) as beside:  # hashing gigabytes takes as long as parsing them
            hashed = beside.submit(hashlib.sha256, data)
            proto = parse_onnx(data)
        digest = hashed.result().hexdigest()
        return SourceModel(proto, "onnx", "as sent", name, digest, size, _warnings(proto))
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if kind == "bundle":
        proto, layout, notes = read_bundle(path)
        return SourceModel(
            proto, "onnx", "as sent, from a zip", name, digest, size, (*notes, *_warnings(proto)), layout
        )
    converted = (
        convert_pt2(path) if kind == "pt2" else convert_torchscript(path, candidate_shapes, input_specs)
    )
    return SourceModel(
        converted.proto,
        kind,
        converted.route,
        name,
        digest,
        size,
        (*converted.warnings, *_warnings(converted.proto)),
    )


def source_from_proto(proto: onnx.ModelProto, *, filename: str = "model.onnx") -> SourceModel:
    """A model that is already in memory, checked as `read_model` checks a file and with the same errors."""
    check_model(proto)
    digest, size = storage.digest(proto)
    return SourceModel(proto, "onnx", "as sent", filename, digest, size, _warnings(proto))


def model_file_name(proto: onnx.ModelProto, layout: Storage | None, stem: str = "model") -> str:
    """What `save_model` calls its file."""
    return f"{stem}.onnx" if layout is None and not storage.needs_files(proto) else f"{stem}.zip"


def save_model(
    proto: onnx.ModelProto, folder: Path, layout: Storage | None = None, stem: str = "model"
) -> str:
    """Write a model as it came: `model.onnx`, or `model.zip` with the files that `layout` names.

    A model without a layout that has more than 2 GiB becomes a zip too, of `model.onnx` and its data file.
    `stem` is the file's name without its ending; folders in it are made.

    Returns:
        The file's name.
    """
    name = model_file_name(proto, layout, stem)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    if layout is None and storage.needs_files(proto):
        layout = storage.split(proto)
    if layout is None:
        (folder / name).write_bytes(storage.to_bytes(proto))
    else:
        write_bundle(proto, folder / name, layout)
    return name


def _warnings(proto: onnx.ModelProto) -> tuple[str, ...]:
    """The legacy exporter merges initializers that are equal, as many are in a net that was never trained."""
    vectors = {tensor.name for tensor in proto.graph.initializer if tensor.dims}
    merged = [n.output[0] for n in proto.graph.node if n.op_type == "Identity" and set(n.input) & vectors]
    if not merged:
        return ()
    return (
        f"{len(merged)} parameters, such as {merged[0]!r}, were equal to others at the export and "
        "share their values with them, so they stay equal. A model that was trained exports without this.",
    )
