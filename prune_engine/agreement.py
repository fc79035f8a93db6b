"""Whether onnxruntime computes with the pruned file what the trained module computes.

How sharply follows from the types in the file (`precision`). A file that rounds while it computes is defined
less sharply than a float32 one: a sum that differs in its seventh digit may fall to the next step. Where a
file is quantised, onnxruntime's optimisations compute something else than the file says, such as a product of
8-bit integers where it asks for one of floats. So what is beyond the limit may agree with onnxruntime without
its optimisations instead, or, if it rounds, differ by three times what onnxruntime differs from itself. That
the file holds the trained values bit for bit is checked apart.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from prune_engine.formats import OnnxModule, read_values
from prune_engine.measure import run_session, session
from prune_engine.precision import Precision, is_quantised, precision_of
from prune_engine.report import Check

Array = np.ndarray[Any, Any]

_OWN = 3.0
_TIES = 0.05  # share of class numbers that may differ: two classes may score the same to the last digit
_LABELS = (np.int32, np.int64, np.bool_)


def outputs_agree(
    pruned: onnx.ModelProto,
    runtime: onnxruntime.InferenceSession,
    module: OnnxModule,
    feed: Mapping[str, Array],
) -> Check:
    """Compare every output, on held-out rows.

    Args:
        pruned: the file, and `runtime` its session.
        module: holds the values that the file holds.
        feed: rows by input name, as onnxruntime takes them.
    """
    allowed, mine = precision_of(pruned), _computed(module, feed)
    optimised = run_session(runtime, dict(feed))
    found, said = _differences(mine, optimised), ""
    if not _within(found, allowed) and is_quantised(pruned):
        plain = run_session(session(pruned, optimise=False), dict(feed))
        own, with_plain = _differences(plain, optimised), _differences(mine, plain)
        said = f"; onnxruntime's optimisations change its own outputs by {own[0]:.1e}"
        if _within(with_plain, allowed):
            found, said = with_plain, said + ", compared without"
        elif allowed.rounds:
            largest, mean = max(allowed.largest, _OWN * own[0]), max(allowed.mean, _OWN * own[1])
            allowed = replace(allowed, largest=largest, mean=mean)
    detail = f"relative difference {found[0]:.1e}, at most {allowed.largest:.0e} ({allowed.why})"
    if allowed.rounds:
        detail += f"; on average {found[1]:.1e}, at most {allowed.mean:.0e}"
    return Check(
        name="onnxruntime agrees with the trained module",
        passed=_within(found, allowed),
        detail=detail + said,
    )


def values_are_written(pruned: onnx.ModelProto, module: OnnxModule) -> Check:
    """Compare every trained constant of the file with the module, bit for bit."""
    values = module.state_values()
    written = read_values(pruned, values, as_stored=True)
    wrong = [name for name, value in values.items() if written[name].tobytes() != value.tobytes()]
    return Check(
        name="file holds the trained values",
        passed=not wrong,
        detail=f"{len(values)} constants" + (f", {len(wrong)} differ, such as {wrong[0]!r}" if wrong else ""),
    )


def _computed(module: OnnxModule, feed: Mapping[str, Array]) -> list[Array]:
    module.eval()
    device = next(iter(module.weights.values())).device
    with torch.no_grad(), _full_float32():
        outputs = module(*(torch.from_numpy(feed[name]).to(device) for name in module.input_names))
    return [output.cpu().numpy() for output in outputs]


@contextlib.contextmanager
def _full_float32() -> Iterator[None]:
    """On a GPU torch rounds what it convolves to TensorFloat-32, ten bits, unless it is told not to."""
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    try:
        convolutions.allow_tf32 = products.allow_tf32 = False
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before


def _within(found: tuple[float, float], allowed: Precision) -> bool:
    return found[0] <= allowed.largest and found[1] <= allowed.mean


def _differences(mine: Sequence[Array], theirs: Sequence[Array]) -> tuple[float, float]:
    """The largest and the mean difference over the largest magnitude, of the output where it is worst.

    Class numbers are not near or far: of these the share that differs counts as the largest difference, where
    it is more than a tie here and there.
    """
    pairs = [_difference(a, b) for a, b in zip(mine, theirs, strict=True)]
    return max(pair[0] for pair in pairs), max(pair[1] for pair in pairs)


def _difference(mine: Array, theirs: Array) -> tuple[float, float]:
    if mine.shape != theirs.shape:
        return float("inf"), float("inf")
    if theirs.dtype in _LABELS:
        share = float((mine != theirs).mean()) if mine.size else 0.0
        return (share if share > _TIES else 0.0), 0.0
    a, b = mine.astype(np.float64), theirs.astype(np.float64)
    scale = float(np.abs(b[np.isfinite(b)]).max(initial=0.0)) or 1.0
    difference = np.abs(np.subtract(a, b, where=a != b, out=np.zeros_like(a)))  # infinities may be equal
    return float(difference.max(initial=0.0)) / scale, float(difference.mean() if a.size else 0.0) / scale
