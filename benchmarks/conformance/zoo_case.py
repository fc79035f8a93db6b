"""One net by one route, in a process of its own: read, compare, differentiate, prune.

python -m benchmarks.conformance.zoo_case NET ROUTE        one line of JSON on stdout, the last one
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from benchmarks.conformance.architectures import ZOO
from benchmarks.conformance.zoo_export import Exported, exported
from prune_engine import PruneSpec, prune
from prune_engine.data import candidate_shapes, data_from_arrays
from prune_engine.formats import OnnxModule, import_onnx, read_model, read_values

DENSITY, STEPS, BATCH = 0.3, 10, 4
LARGEST_DIFFERENCE = 1e-4
_SEEDS = 4
Array = np.ndarray[Any, Any]


def run(name: str, route: str) -> dict[str, Any]:
    """What became of the case: `passed`, `stage` and `error` where not, and the figures."""
    result: dict[str, Any] = {"net": name, "family": ZOO[name].family, "route": route, "passed": False}
    began = time.monotonic()
    file = exported(name, route)
    result["export seconds"] = round(time.monotonic() - began, 1)
    result["fixed batch"] = file.fixed
    refused = file.error or _refused(file.path)
    if refused:
        return {**result, "stage": "export", "error": refused}
    began, stage = time.monotonic(), "import"
    try:
        data = _data(name, 2 if file.fixed else BATCH)
        shapes = candidate_shapes(data_from_arrays(data, name="zoo"))
        source = read_model(file.path, candidate_shapes=shapes)
        module = import_onnx(source.proto)
        result["tensors"] = len(module.prunable)
        result["weights"] = sum(int(np.prod(weight.shape)) for weight in module.prunable)
        stage = "forward"
        result["difference"], result["native difference"] = _compare(file, source.proto, module)
        if not result["difference"] <= LARGEST_DIFFERENCE:
            raise ValueError(f"differs from onnxruntime by {result['difference']:.1e}")
        stage = "gradient"
        result["no gradient"] = _without_gradient(name, module, 2 if file.fixed else 3)
        known = ZOO[name].without_gradient
        lost = [one for one in result["no gradient"] if not any(part in one for part in known)]
        if lost:
            raise ValueError(f"no gradient: {', '.join(lost[:5])} ({len(lost)} of {len(module.prunable)})")
        stage = "prune"
        result |= _prune(file.path, data, 2 if file.fixed else BATCH)
    except Exception as error:  # noqa: BLE001  the table says what happened
        traceback.print_exc()
        said = " ".join(str(error).split())[:600]
        return {**result, "stage": stage, "error": f"{type(error).__name__}: {said}"}
    return {**result, "passed": True, "seconds": round(time.monotonic() - began, 1)}


def _refused(path: Path) -> str:
    """What onnxruntime says of a file that torch exported and that no runtime takes; "" of a sound one."""
    if path.suffix != ".onnx":
        return ""
    try:
        onnxruntime.InferenceSession(str(path))
    except Exception as error:  # noqa: BLE001  onnxruntime has no common class of errors
        return f"onnxruntime refuses what was exported: {' '.join(str(error).split())[:300]}"
    return ""


def _data(name: str, batch: int) -> dict[str, Array]:
    """Random rows: as many for training as ten steps take, and one batch held out."""
    generator = np.random.default_rng(2)
    arrays: dict[str, Array] = {}
    for one in ZOO[name].inputs:
        arrays[f"{one.name}_train"] = one.draw(STEPS * batch, generator)
        arrays[f"{one.name}_test"] = one.draw(batch, generator)
    return arrays


def _compare(file: Exported, proto: onnx.ModelProto, module: OnnxModule) -> tuple[float, float]:
    """The imported module against onnxruntime, and onnxruntime against the net itself.

    The largest difference over the largest value of the output, the worst of all outputs.
    """
    inputs, native = file.reference()
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    wanted = {info.name for info in session.get_inputs()}
    feed = dict(zip([info.name for info in session.get_inputs()], inputs.values(), strict=False))
    feed |= {name: value for name, value in inputs.items() if name in wanted}
    theirs = session.run(None, feed)
    module.eval()
    with torch.no_grad():
        ours = module(*(torch.from_numpy(feed[name]) for name in module.input_names))
    worst = max(_difference(a.numpy(), b) for a, b in zip(ours, theirs, strict=True))
    floats = [output for output in theirs if output.dtype.kind == "f"]
    far = [_difference(a, b) for a, b in zip(floats, native, strict=False)]
    return worst, max(far, default=0.0)


def _difference(ours: Array, theirs: Array) -> float:
    if ours.shape != theirs.shape:
        raise ValueError(f"an output of shape {ours.shape}, where onnxruntime gives {theirs.shape}")
    if theirs.size == 0 or theirs.dtype.kind != "f":
        return 0.0 if np.array_equal(ours, theirs) else float("inf")
    scale = float(np.abs(theirs).max()) or 1.0
    return float(np.abs(ours - theirs).max()) / scale


def _without_gradient(name: str, module: OnnxModule, rows: int) -> list[str]:
    """The prunable weights that get no gradient from any of a few random inputs.

    Raises:
        ValueError: a gradient is not finite.
    """
    left = {weight.name for weight in module.prunable}
    generator = np.random.default_rng(3)
    for _ in range(_SEEDS):
        given = {one.name: torch.from_numpy(one.draw(rows, generator)) for one in ZOO[name].inputs}
        inputs = [
            given.get(key, tensor) for key, tensor in zip(module.input_names, given.values(), strict=False)
        ]
        module.zero_grad()
        outputs = [output for output in module(*inputs) if output.requires_grad]
        weighed: list[Tensor] = [
            (output * torch.from_numpy(generator.standard_normal(output.shape).astype(np.float32))).sum()
            for output in outputs
        ]
        torch.stack(weighed).sum().backward()  # type: ignore[no-untyped-call]
        for weight in module.prunable:
            gradient = module.weights[weight.name].grad
            if gradient is None:
                continue
            if not bool(torch.isfinite(gradient).all()):
                raise ValueError(f"the gradient of {weight.name} is not finite")
            if bool(gradient.any()):
                left.discard(weight.name)
        if not left:
            break
    return sorted(left)


def _prune(path: Path, data: dict[str, Array], batch: int) -> dict[str, Any]:
    """A job of ten steps; the result is loaded and its weights are counted."""
    spec = PruneSpec(density=DENSITY, epochs=1, batch_size=batch, learning_rate=1e-3)
    result = prune(path, data, spec)
    steps = result.report.settings["total_steps"]
    if steps != STEPS:
        raise ValueError(f"{steps} training steps instead of {STEPS}")
    onnxruntime.InferenceSession(result.model.SerializeToString())
    values = read_values(result.model, result.masks)
    total = sum(value.size for value in values.values())
    kept = sum(int(np.count_nonzero(value)) for value in values.values())
    if kept != round(DENSITY * total):
        raise ValueError(f"{kept} of {total} weights are kept, not {round(DENSITY * total)}")
    return {"kept": kept, "task": result.report.data.task, "metric": result.report.quality.pruned.value}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("\n" + json.dumps(run(sys.argv[1], sys.argv[2])))
