"""TorchScript archives -> ONNX. An archive is code: it is looked through before torch loads it."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from prune_engine.errors import ConversionError, ModelError, ModelUnsafeError
from prune_engine.formats.conversion.process import Converted, InputShapes, convert

_LARGEST_RATIO = 20  # unpacked over packed size; torch stores its archives uncompressed
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError)
_HIDDEN_CODE = re.compile(rb"__(?:set|get)state__")
_FORBIDDEN = re.compile(rb"\b(?:torch|aten)\.(from_file|save|as_strided_?|set_|_load\w*|_save\w*)\s*\(")
_CUSTOM = re.compile(rb"(?<![\w.])ops\.(\w+)\.(\w+)")  # and no class of a module named ops
_KNOWN_NAMESPACES = {b"aten", b"prim", b"prims", b"torchvision"}


def scan_archive(path: Path) -> None:
    """Looks through an archive's code without loading it, for loading alone would run `__setstate__`.

    Raises:
        ModelUnsafeError: code that runs on loading, calls that touch files or memory, or custom operators.
        ModelError: the archive is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sum(e.file_size for e in entries) > max(path.stat().st_size, 2**20) * _LARGEST_RATIO:
                raise ModelUnsafeError(
                    "The TorchScript archive unpacks to far more than its size. Save it again."
                )
            # torch looks members up without regard to case: what is read here must be what torch reads.
            names = {entry.filename.lower() for entry in entries}
            if len(names) < len(entries) or archive.comment:
                raise ModelUnsafeError(
                    "The TorchScript archive has two members of one name. Save it again with torch.jit.save."
                )
            for entry in entries:
                inside = entry.filename.lower().partition("/")[2]
                if inside.startswith("code/") and inside.endswith(".py"):
                    _scan_code(entry.filename, archive.read(entry))
    except _DAMAGED as error:
        raise ModelError(
            "The TorchScript archive is damaged: a part of it cannot be read. Send it again."
        ) from error


def _scan_code(name: str, code: bytes) -> None:
    instead = "Send an ONNX export of the model instead."
    if match := _HIDDEN_CODE.search(code):
        raise ModelUnsafeError(
            f"The TorchScript archive defines {match[0].decode()} in {name}, which runs while it is "
            f"loaded. {instead}"
        )
    if match := _FORBIDDEN.search(code):
        raise ModelUnsafeError(
            f"The TorchScript archive calls torch.{match[1].decode()} in {name}. {instead}"
        )
    for match in _CUSTOM.finditer(code):
        if match[1] not in _KNOWN_NAMESPACES:
            operator = f"{match[1].decode()}::{match[2].decode()}"
            raise ModelUnsafeError(
                f"The TorchScript archive calls the custom operator {operator} in {name}. {instead}"
            )


def convert_torchscript(
    path: Path,
    candidate_shapes: Sequence[InputShapes],
    input_specs: Mapping[str, tuple[Sequence[int | str | None], str]] | None = None,
) -> Converted:
    """Exports a TorchScript archive with the first of `candidate_shapes` that it runs with.

    Args:
        input_specs: shape (with the batch; None or a name where it may vary) and dtype of every argument of
        `forward`, by its name; the candidates are not looked at then.

    Raises:
        ModelUnsafeError, ModelError: see `scan_archive`.
        ConversionError: no shape fits, no exporter can convert it, or the export computes something else.
    """
    scan_archive(path)
    if not candidate_shapes and not input_specs:
        raise ConversionError(
            "A TorchScript file does not say which shapes it takes, and there is no data to take them from. "
            'Send input_specs, such as {"x": [[null, 3, 224, 224], "float32"]}, or an ONNX export.'
        )
    request: dict[str, object] = {
        "model": str(path.resolve()),
        "shapes": candidate_shapes,
        "input_specs": None if input_specs is None else dict(input_specs),
    }
    return convert("prune_engine.formats.conversion.torchscript_export", request, "TorchScript file")
