"""TorchScript -> ONNX, in a process of its own: TorchScript is code, and native code that may crash."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from prune_engine.errors import ConversionError, ModelError, ModelUnsafeError
from prune_engine.formats.onnx_file import parse_onnx

InputShapes = tuple[tuple[tuple[int, ...], str], ...]
"""One (shape with batch, numpy dtype name) per model input, in order."""

_SECONDS = 900
_LARGEST_RATIO = 20  # unpacked over packed size; torch stores its archives uncompressed
_HIDDEN_CODE = re.compile(rb"__(?:set|get)state__")
_FORBIDDEN = re.compile(rb"\b(?:torch|aten)\.(from_file|save|as_strided_?|set_|_load\w*|_save\w*)\s*\(")
_CUSTOM = re.compile(rb"\bops\.(\w+)\.(\w+)")
_KNOWN_NAMESPACES = {b"aten", b"prim", b"prims", b"torchvision"}
_KEPT_VARIABLES = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "TMPDIR", "LANG", "SYSTEMROOT")


@dataclass(frozen=True)
class Converted:
    """The exported model, how it was made, and what to tell the user."""

    proto: onnx.ModelProto
    route: str
    warnings: tuple[str, ...]


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
            for entry in entries:
                if entry.filename.partition("/")[2].startswith("code/") and entry.filename.endswith(".py"):
                    _scan_code(entry.filename, archive.read(entry))
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
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


def convert_torchscript(path: Path, candidate_shapes: Sequence[InputShapes]) -> Converted:
    """Exports a TorchScript archive with the first of `candidate_shapes` that it runs with.

    Raises:
        ModelUnsafeError, ModelError: see `scan_archive`.
        ConversionError: no shape fits, an operator cannot be exported, or the export computes something else.
    """
    scan_archive(path)
    if not candidate_shapes:
        raise ConversionError(
            "A TorchScript file does not say which shapes it takes, and there is no data to take them from. "
            "Send data with the model, or send an ONNX export."
        )
    with tempfile.TemporaryDirectory(prefix="prunery-torchscript-") as folder:
        request: dict[str, object] = {"model": str(path.resolve()), "shapes": candidate_shapes}
        answer = _run(Path(folder), request)
        if "error" in answer:
            raise ConversionError(str(answer["error"]))
        proto = parse_onnx((Path(folder) / "model.onnx").read_bytes())
    return Converted(proto, str(answer["route"]), tuple(str(w) for w in answer["warnings"]))


def _run(folder: Path, request: dict[str, object]) -> dict[str, list[str] | str]:
    """Runs the exporter in `folder`; its answer is `answer.json` there."""
    root = Path(__file__).resolve().parents[2]
    environment = {key: os.environ[key] for key in _KEPT_VARIABLES if key in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [environment.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "prune_engine.formats.torchscript_export"]
    try:
        ended = subprocess.run(
            command, input=json.dumps(request), cwd=folder, env=environment, text=True, timeout=_SECONDS,
            capture_output=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ConversionError(
            f"Converting the TorchScript file took more than {_SECONDS} s. Send ONNX."
        ) from error
    answer = folder / "answer.json"
    if answer.exists():
        content: dict[str, list[str] | str] = json.loads(answer.read_text())
        return content
    if ended.returncode < 0:
        how = f"ended by {signal.Signals(-ended.returncode).name}"
    else:
        how = (ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"])[-1]
    raise ConversionError(
        f"Converting the TorchScript file crashed ({how}). Send an ONNX export of the model."
    )
