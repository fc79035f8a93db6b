"""An export next to its original: what converters compare before they hand an ONNX file on."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from prune_engine.errors import ConversionError
from prune_engine.formats import storage
from prune_engine.processors import threads_asked_for

TOLERANCE = 1e-3
"""Of the largest output; float32 through two runtimes stays far below it."""

_ERRORS_ONLY = 3


def flat_tensors(result: Any) -> list[Tensor]:
    """The tensors of a result, flattened as the exporters flatten tuples, lists and dicts."""
    if isinstance(result, Tensor):
        return [result]
    parts = result.values() if isinstance(result, dict) else result
    if isinstance(parts, str) or not hasattr(parts, "__iter__"):
        return []
    return [tensor for part in parts for tensor in flat_tensors(part)]


def distance(a: Tensor, b: Tensor) -> float:
    """Largest difference over the largest value; infinite where the shapes differ."""
    if a.shape != b.shape:
        return float("inf")
    if a.numel() == 0:
        return 0.0
    a, b = a.double(), b.double()
    same = (a == b) | (a.isnan() & b.isnan())
    found = float(
        torch.where(same, 0.0, a - b).abs().max() / a.nan_to_num(0, 0, 0).abs().max().clamp_min(1e-6)
    )
    return found if found == found else float("inf")


def compare(proto: onnx.ModelProto, wanted: Sequence[Tensor], inputs: Sequence[Tensor], where: str) -> None:
    """Runs the export in onnxruntime on what the original was run on.

    Args:
        wanted: the original's outputs.
        where: words for the messages, such as "at batch size 3".

    Raises:
        ConversionError: it does not run, or gives something else.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads_asked_for() or 0
    names = [value.name for value in proto.graph.input]
    try:
        with storage.loadable(proto) as file:
            session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        known = {value.name for value in session.get_inputs()}
        feed = {n: x.numpy() for n, x in zip(names, inputs, strict=True) if n in known}
        found = session.run(None, feed)
    except Exception as error:
        raise ConversionError(
            f"The export does not run in onnxruntime {where}: {last_line(error)}"
        ) from error
    if len(found) != len(wanted):
        raise ConversionError(f"The export has {len(found)} outputs, the model {len(wanted)}.")
    for a, b in zip(wanted, found, strict=True):
        apart = distance(a, torch.from_numpy(np.asarray(b)))
        if apart > TOLERANCE:
            raise ConversionError(
                f"The exported ONNX gives other outputs than the original {where} (relative difference "
                f"{apart:.2g}). It may have been exported in training mode, or its control flow depends "
                "on the "
                "input. Export the original model to ONNX in eval mode and send that."
            )


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def last_line(error: BaseException) -> str:
    """The last line of an error's message, or its name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def answer(convert: Callable[[dict[str, Any]], tuple[onnx.ModelProto, str, list[str]]]) -> None:
    """Answers the request on stdin, as `conversion.convert` expects it: with a model, a route and "
    "warnings."""
    warnings.filterwarnings("ignore")
    request = json.load(sys.stdin)
    try:
        proto, route, notes = convert(request)
        storage.write(proto, Path("model.onnx"))
        said: dict[str, Any] = {"route": route, "warnings": notes}
    except ConversionError as error:
        said = {"error": error.message}
    Path("answer.json").write_text(json.dumps(said))
