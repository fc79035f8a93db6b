"""The checks that gate success: no file leaves that fails one of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime

from prune_engine.agreement import outputs_agree, values_are_written
from prune_engine.errors import VerificationError
from prune_engine.formats import OnnxModule, read_values, storage, structural_differences
from prune_engine.gates import kept_count
from prune_engine.measure import session
from prune_engine.report import Check


def verify(
    original: onnx.ModelProto,
    pruned: onnx.ModelProto,
    module: OnnxModule,
    masks: Mapping[str, np.ndarray],
    density: float,
    feed: Mapping[str, np.ndarray],
) -> tuple[list[Check], onnxruntime.InferenceSession]:
    """Check the pruned file against the request, the original and the trained module.

    Args:
        feed: held-out rows by input name, as onnxruntime takes them.

    Returns:
        The checks, all passed, and the session that holds the pruned model.

    Raises:
        VerificationError: a check failed; the message lists which and why.
    """
    checks = [_exact_density(original, pruned, masks, density), _same_graph(original, pruned), _valid(pruned)]
    runtime = session(pruned)
    checks.append(Check(name="onnxruntime loads it", passed=True, detail=onnxruntime.__version__))
    checks += [values_are_written(pruned, module), outputs_agree(pruned, runtime, module, feed)]
    failed = [f"{check.name}: {check.detail}" for check in checks if not check.passed]
    if failed:
        raise VerificationError(
            "the pruned model failed its checks and is not handed out; " + "; ".join(failed)
        )
    return checks, runtime


def _exact_density(
    original: onnx.ModelProto, pruned: onnx.ModelProto, masks: Mapping[str, np.ndarray], density: float
) -> Check:
    """Counted in the written file, where a kept weight can have been rounded to zero.

    At density 1 a model that came with zeros, and was not trained, keeps them.
    """
    values = read_values(pruned, masks)
    total = sum(mask.size for mask in masks.values())
    nonzero = sum(int(np.count_nonzero(value)) for value in values.values())
    outside = sum(int(np.count_nonzero(values[name][~mask])) for name, mask in masks.items())
    wanted = kept_count(density, total)
    passed = nonzero == wanted and outside == 0
    if wanted == total and not passed:
        sent = read_values(original, masks)
        passed = all(np.array_equal(value, sent[name]) for name, value in values.items())
    return Check(
        name="exact density",
        passed=passed,
        detail=f"{nonzero} of {total} prunable weights are not zero, {wanted} asked for, {outside} off mask",
    )


def _same_graph(original: onnx.ModelProto, pruned: onnx.ModelProto) -> Check:
    differences = structural_differences(original, pruned)
    said = (
        "; ".join(differences[:5]) or f"{len(pruned.graph.node)} nodes, inputs, outputs, opset and metadata"
    )
    return Check(name="graph is the original's", passed=not differences, detail=said)


def _valid(pruned: onnx.ModelProto) -> Check:
    try:
        storage.check(pruned)
    except onnx.checker.ValidationError as error:
        return Check(name="onnx checker", passed=False, detail=str(error))
    return Check(name="onnx checker", passed=True, detail=f"onnx {onnx.__version__}")
