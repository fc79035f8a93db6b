"""The checks that gate success: no file leaves that fails one of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
import torch

from prune_engine.errors import VerificationError
from prune_engine.formats import OnnxModule, read_values, storage, structural_differences
from prune_engine.gates import kept_count
from prune_engine.measure import run_session, session
from prune_engine.report import Check

AGREEMENT = 1e-4


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
    checks = [_exact_density(pruned, masks, density), _same_graph(original, pruned), _valid(pruned)]
    runtime = session(pruned)
    checks.append(Check(name="onnxruntime loads it", passed=True, detail=onnxruntime.__version__))
    checks.append(_outputs_agree(runtime, module, feed))
    failed = [f"{check.name}: {check.detail}" for check in checks if not check.passed]
    if failed:
        raise VerificationError(
            "the pruned model failed its checks and is not handed out; " + "; ".join(failed)
        )
    return checks, runtime


def _exact_density(pruned: onnx.ModelProto, masks: Mapping[str, np.ndarray], density: float) -> Check:
    """Counted in the written file, where a kept weight can have been rounded to zero."""
    values = read_values(pruned, masks)
    total = sum(mask.size for mask in masks.values())
    nonzero = sum(int(np.count_nonzero(value)) for value in values.values())
    outside = sum(int(np.count_nonzero(values[name][~mask])) for name, mask in masks.items())
    wanted = kept_count(density, total)
    return Check(
        name="exact density",
        passed=nonzero == wanted and outside == 0,
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


def _outputs_agree(
    runtime: onnxruntime.InferenceSession, module: OnnxModule, feed: Mapping[str, np.ndarray]
) -> Check:
    """Largest difference over the largest magnitude of each output, on held-out rows."""
    module.eval()
    device = next(iter(module.weights.values())).device
    with torch.no_grad():
        outputs = module(*(torch.from_numpy(feed[name]).to(device) for name in module.input_names))
    worst = max(
        _relative_difference(mine.float().cpu().numpy(), theirs)
        for mine, theirs in zip(outputs, run_session(runtime, dict(feed)), strict=True)
    )
    return Check(
        name="onnxruntime agrees with the trained module",
        passed=worst <= AGREEMENT,
        detail=f"relative difference {worst:.1e}, at most {AGREEMENT:.0e}",
    )


def _relative_difference(mine: np.ndarray, theirs: np.ndarray) -> float:
    if mine.shape != theirs.shape:
        return float("inf")
    scale = float(np.abs(theirs).max(initial=0.0)) or 1.0
    return float(np.abs(mine - theirs).max(initial=0.0)) / scale
