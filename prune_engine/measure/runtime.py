"""onnxruntime sessions: everything that is reported was measured in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime

from prune_engine.errors import ModelError, OutOfMemoryError
from prune_engine.formats import storage
from prune_engine.memory import is_out_of_memory
from prune_engine.processors import threads_asked_for

PROVIDER = "CPUExecutionProvider"
_ERRORS_ONLY = 3


def session(
    model: onnx.ModelProto | bytes, threads: int | None = None, *, optimise: bool = True
) -> onnxruntime.InferenceSession:
    """A session on the CPU, the weights in memory.

    Args:
        model: the model, or its bytes.
        threads: inside an operator; None: as many as onnxruntime likes, or as may be used.
        optimise: let onnxruntime fuse operators, as it does by itself.

    Raises:
        ModelError: onnxruntime refuses the model; gives its reason.
        OutOfMemoryError: it has no memory to load it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if threads is not None:
        options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads or threads_asked_for() or 0
    try:
        if isinstance(model, bytes):
            return onnxruntime.InferenceSession(model, options, providers=[PROVIDER])
        with storage.loadable(model) as file:
            return onnxruntime.InferenceSession(file, options, providers=[PROVIDER])
    except Exception as error:  # noqa: BLE001  onnxruntime has no common class of errors
        if is_out_of_memory(error):
            raise OutOfMemoryError("onnxruntime needs more memory than there is to load the model.") from None
        raise ModelError(
            f"onnxruntime does not load the model: {' '.join(str(error).split())[:400]}"
        ) from None


def run_session(
    runtime: onnxruntime.InferenceSession, feed: Mapping[str, np.ndarray[Any, Any]]
) -> list[np.ndarray[Any, Any]]:
    """All outputs, in the graph's order; outputs that are no tensors become empty arrays."""
    outputs = runtime.run(None, dict(feed))
    return [output if isinstance(output, np.ndarray) else np.empty(0) for output in outputs]
