"""Runs a converter to ONNX in a process of its own: it loads a stranger's file with code that may crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx

from prune_engine.errors import ConversionError
from prune_engine.formats import storage
from prune_engine.formats.onnx_file import check_model

InputShapes = tuple[tuple[tuple[int, ...], str], ...]
"""One (shape with batch, numpy dtype name) per model input, in order."""

SECONDS = 900
_KEPT_VARIABLES = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "TMPDIR", "LANG", "SYSTEMROOT")
# torch then unpickles tensors and plain values only, whatever its own callers ask for.
_SAFE = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}


@dataclass(frozen=True)
class Converted:
    """The exported model, how it was made, and what to tell the user."""

    proto: onnx.ModelProto
    route: str
    warnings: tuple[str, ...]


def convert(module: str, request: dict[str, object], what: str) -> Converted:
    """Runs `python -m module` with the request on its stdin.

    The process writes `model.onnx` and `answer.json` into its working folder: `{"route", "warnings"}`, or
    `{"error"}` with the reason.

    Args:
        what: the file in words, for messages: "TorchScript file".

    Raises:
        ConversionError: the converter's reason, or how it ended without one.
        ModelError: what it wrote is no sound model.
    """
    with tempfile.TemporaryDirectory(prefix="prunery-convert-") as folder:
        answer = _run(Path(folder), module, request, what)
        if "error" in answer:
            raise ConversionError(str(answer["error"]))
        proto = storage.read(Path(folder) / "model.onnx")
    check_model(proto)
    return Converted(proto, str(answer["route"]), tuple(str(w) for w in answer["warnings"]))


def _run(folder: Path, module: str, request: dict[str, object], what: str) -> dict[str, list[str] | str]:
    """Runs the converter in `folder`; its answer is `answer.json` there."""
    root = Path(__file__).resolve().parents[3]
    environment = {key: os.environ[key] for key in _KEPT_VARIABLES if key in os.environ} | _SAFE
    environment["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [environment.get("PYTHONPATH")])])
    # -P: the working folder, into which the process writes, is no place to import from.
    command = [sys.executable, "-P", "-m", module]
    try:
        ended = subprocess.run(
            command, input=json.dumps(request), cwd=folder, env=environment, text=True, timeout=SECONDS,
            capture_output=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ConversionError(f"Converting the {what} took more than {SECONDS} s. Send ONNX.") from error
    answer = folder / "answer.json"
    if answer.exists():
        content: dict[str, list[str] | str] = json.loads(answer.read_text())
        return content
    if ended.returncode < 0:
        how = f"ended by {signal.Signals(-ended.returncode).name}"
    else:
        how = (ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"])[-1]
    raise ConversionError(f"Converting the {what} crashed ({how}). Send an ONNX export of the model.")
