"""The checks that gate success: no file leaves that fails one of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime

from prune_engine.agreement import outputs_agree, values_are_written
from prune_engine.errors import VerificationError
from prune_engine.formats import OnnxModule, read_values, storage, structural_differences
from prune_engine.gates import Layout, unit_view
from prune_engine.granularity import Patterns, SingleWeights
from prune_engine.measure import session
from prune_engine.report import Check
from prune_engine.unchanged import values_unchanged


def verify(
    original: onnx.ModelProto,
    pruned: onnx.ModelProto,
    module: OnnxModule,
    masks: Mapping[str, np.ndarray],
    layout: Layout,
    density: float,
    feed: Mapping[str, np.ndarray],
    started: onnx.ModelProto | None = None,
) -> tuple[list[Check], onnxruntime.InferenceSession]:
    """Check the pruned file against the request, the original and the trained module.

    Args:
        layout: the gated weights in the units that are kept or go.
        feed: held-out rows by input name, as onnxruntime takes them.
        started: where no weight is trained, the file with the values that they all keep.

    Returns:
        The checks, all passed, and the session that holds the pruned model.

    Raises:
        VerificationError: a check failed; the message lists which and why.
    """
    wanted = layout.kept(density)
    checks = [_exact_density(original, pruned, masks, wanted, started)]
    if not isinstance(layout.granularity, SingleWeights):
        own_zeros = started is not None or wanted == layout.prunable
        counted = masks if own_zeros else read_values(pruned, masks)
        checks.append(_whole_units(counted, layout))
    if started is not None:
        checks.append(values_unchanged(started, pruned, module, masks))
    checks += [_same_graph(original, pruned), _valid(pruned)]
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
    original: onnx.ModelProto,
    pruned: onnx.ModelProto,
    masks: Mapping[str, np.ndarray],
    wanted: int,
    started: onnx.ModelProto | None,
) -> Check:
    """Counted in the written file, where a kept weight can have been rounded to zero.

    At density 1 a model that came with zeros, and was not trained, keeps them; and so does every model none
    of whose weights is trained (`started`).
    """
    values = read_values(pruned, masks)
    total = sum(mask.size for mask in masks.values())
    nonzero = sum(int(np.count_nonzero(value)) for value in values.values())
    outside = sum(int(np.count_nonzero(values[name][~mask])) for name, mask in masks.items())
    passed = nonzero == wanted and outside == 0
    if wanted == total and not passed:
        sent = read_values(original, masks)
        passed = all(np.array_equal(value, sent[name]) for name, value in values.items())
    said = f"{nonzero} of {total} prunable weights are not zero, {wanted} asked for, {outside} off mask"
    if started is not None and nonzero < wanted:
        before = read_values(started, masks)
        came_zero = sum(int(np.count_nonzero(before[name][mask] == 0)) for name, mask in masks.items())
        passed = nonzero + came_zero == wanted and outside == 0
        said += f"; {came_zero} are kept and came as zeros"
    return Check(name="exact density", passed=passed, detail=said)


def _whole_units(values: Mapping[str, np.ndarray], layout: Layout) -> Check:
    """Every group of n:m has n that are not zero, every block all or none.

    Counted in the written file; where kept weights may be zeros that the model came with, in the masks.
    """
    counts = np.concatenate(
        [
            np.count_nonzero(unit_view(values[layer.name], weight, layout.granularity), axis=1)
            for layer, weight in zip(layout.layers, layout.weights, strict=True)
        ]
    )
    if isinstance(layout.granularity, Patterns):
        n = layout.granularity.n
        right = int((counts == n).sum())
        said = f"{right} of {counts.size} groups of {layout.granularity.m} have exactly {n} that are not zero"
        return Check(name=f"every group is {layout.granularity}", passed=right == counts.size, detail=said)
    whole, empty = int((counts == layout.size).sum()), int((counts == 0).sum())
    said = (
        f"{whole} of {counts.size} blocks are kept, {empty} are zero, {counts.size - whole - empty} are mixed"
    )
    return Check(
        name=f"blocks of {layout.granularity} are whole", passed=whole + empty == counts.size, detail=said
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
