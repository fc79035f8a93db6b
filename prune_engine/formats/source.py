"""`read_model`: the file that a user sent, as one ONNX model in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx

from prune_engine.formats.onnx_file import check_model, parse_onnx
from prune_engine.formats.recognise import recognise
from prune_engine.formats.torchscript import InputShapes, convert_torchscript


@dataclass(frozen=True)
class SourceModel:
    """A model as it came, and as ONNX.

    Args:
        proto: the whole model, without external data: the user's own graph, or the exported one.
        route: how it became ONNX: "as sent", or the exporter that was used.
        filename: the user's name of the file.
        sha256: of the file as it was sent.
        bytes: of the file as it was sent.
    """

    proto: onnx.ModelProto
    format: Literal["onnx", "torchscript"]
    route: str
    filename: str
    sha256: str
    bytes: int
    warnings: tuple[str, ...] = ()


def read_model(
    path: Path, *, filename: str | None = None, candidate_shapes: Sequence[InputShapes] = ()
) -> SourceModel:
    """Reads an ONNX or TorchScript file; which of them it is, its content says.

    Args:
        path: the file. Only this file is read, whatever it refers to.
        filename: the user's name for it, if `path` has another.
        candidate_shapes: for TorchScript, which does not know its input shapes: tried in order until one
        runs.

    Raises:
        ModelEmptyError, ModelFormatError, ModelUnsafeError, ExternalDataError, ConversionError: as they say.
        ModelError: cut off or damaged.
    """
    kind = recognise(path)
    name = filename or path.name
    if kind == "onnx":
        data = path.read_bytes()
        proto = parse_onnx(data)
        return _as_sent(proto, name, data)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    converted = convert_torchscript(path, candidate_shapes)
    return SourceModel(
        converted.proto, "torchscript", converted.route, name, digest, path.stat().st_size, converted.warnings
    )


def source_from_proto(proto: onnx.ModelProto, *, filename: str = "model.onnx") -> SourceModel:
    """A model that is already in memory, checked as `read_model` checks a file and with the same errors."""
    check_model(proto)
    data = proto.SerializeToString()
    return _as_sent(proto, filename, data)


def _as_sent(proto: onnx.ModelProto, filename: str, data: bytes) -> SourceModel:
    digest = hashlib.sha256(data).hexdigest()
    return SourceModel(proto, "onnx", "as sent", filename, digest, len(data), _warnings(proto))


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
