"""Reports as a real run writes them, for tests that need one without running anything.

The figures belong together (layers add up to the whole, the curve ends at the density reached), so a page
made of them can be read like a true one.
"""

from __future__ import annotations

import math
import random
from typing import Any

from prune_engine.goals import Target
from prune_engine.report import FrontierStop, Report, TargetInfo, TriedDensity
from prune_engine.spec import Method, Preprocess, PruneSpec

# The names that strangers give: markup, quotes, formulas, a direction override, control characters, no end.
HOSTILE_NAMES = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "$\\frac{1}{2}$ & 'quoted' {{ 7 * 7 }}",
    "gpj.\u202egnp.exe\x00\x1b[31m",
    "</style></title><iframe src='//example.com/a'>",
    "w" * 400,
    "重み_слой_🦊",
    "",
)


def sample_report(
    *,
    layers: int = 20,
    density: float = 0.1,
    points: int = 60,
    method: Method = "gumbel",
    metric: str = "accuracy",
    filename: str = "resnet20.onnx",
    names: tuple[str, ...] = (),
    sparse_everywhere: bool = False,
    bare: bool = False,
    seed: int = 0,
) -> Report:
    """A finished run of a ResNet-like net.

    Args:
        layers: number of prunable weights.
        points: of the training curve; 0 for none.
        names: replace the first layers' names.
        sparse_everywhere: some layers lose every weight.
        bare: everything that may be None or empty is.
    """
    draw = random.Random(seed)
    shapes = _shapes(layers)
    rows = [math.prod(shape) for shape in shapes]
    prunable = sum(rows)
    kept = _kept(rows, round(density * prunable), draw, sparse_everywhere)
    parameters = prunable + sum(shape[0] * 3 for shape in shapes)
    labels = [_name(place, layers) for place in range(layers)]
    labels[: len(names)] = names
    classification = metric in ("accuracy", "agreement")
    unit = "%" if classification else ("USD" if metric in ("mae", "mse") else "")
    values = (91.25, 88.02, 90.61) if classification else (0.3812, 0.5520, 0.3927)
    edges = [round(-1.2 + 0.04 * place, 4) for place in range(61)]
    dense_counts = [
        round(prunable * 0.04 * math.exp(-(((edge + 0.02) / 0.25) ** 2)) / 0.443) for edge in edges[:-1]
    ]
    dense_counts[30] += prunable - sum(dense_counts)
    after = _kept(dense_counts, sum(kept), draw, False)
    report: dict[str, Any] = {
        "job_id": None if bare else "job_0193a5b2c3d4e5f6a7b8c9",
        "created_at": "2026-11-20T14:34:38+00:00",
        "spec": PruneSpec(density=density, method=method, seed=seed),
        "settings": {
            "epochs": 12,
            "batch_size": 128,
            "learning_rate": 0.05,
            "gate_learning_rate": 0.2,
            "weight_decay": 0.0,
            "schedule": {"anneal_until": 0.6, "fix_mask_at": 0.75},
            "distillation": 0.5,
            "optimizer": "SGD, Nesterov momentum 0.9",
        },
        "model": {
            "filename": filename,
            "format": "onnx",
            "route": "as sent",
            "sha256": "7f3c8a90b1d24e65f0a9c7d81b3e5f2046a8c9d0e1f2a3b4c5d6e7f80912a3b4",
            "opset": 17,
            "ir_version": 8,
            "inputs": [{"name": "input", "dtype": "float32", "shape": ("batch", 3, 32, None)}],
            "outputs": [{"name": "logits", "dtype": "float32", "shape": ("batch", 10)}],
            "operators": {"Conv": layers, "Relu": layers - 1, "Add": 9, "GlobalAveragePool": 1, "Gemm": 1},
            "parameters": parameters,
            "prunable": prunable,
        },
        "data": {
            "name": "cifar10",
            "source": "named",
            "kind": "image",
            "task": "classification"
            if metric == "accuracy"
            else "distillation"
            if metric == "agreement"
            else "regression",
            "train_rows": 50_000,
            "holdout_rows": 10_000,
            "holdout_source": "test split",
            "classes": 10 if classification else None,
            "preprocess": {
                "name": "[0, 1], ImageNet mean and std, NCHW",
                "chosen": Preprocess(
                    scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), layout="nchw"
                ),
                "why": "the dense model does best with it on 2000 training rows, by 3.1 points",
                "candidates": []
                if bare
                else [
                    {"name": "[0, 1], ImageNet mean and std, NCHW", "score": 93.4},
                    {"name": "[0, 1], the data's own mean and std, NCHW", "score": 90.3},
                    {"name": "[-1, 1], NCHW", "score": 84.9},
                    {"name": "[0, 1], NCHW", "score": 71.2},
                    {"name": "[0, 255], NCHW", "score": 11.0},
                    {
                        "name": "[0, 1], NHWC",
                        "score": None,
                        "note": "does not fit the input (batch, 3, 32, 32)",
                    },
                ],
            },
        },
        "density": {
            "requested": density,
            "reached": sum(kept) / prunable,
            "kept": sum(kept),
            "prunable": prunable,
            "nonzero_parameters": sum(kept) + parameters - prunable,
            "parameters": parameters,
            "of_all_parameters": (sum(kept) + parameters - prunable) / parameters,
        },
        "layers": [
            {
                "name": label,
                "kind": "Gemm" if len(shape) == 2 else "Conv",
                "shape": shape,
                "kept": left,
                "prunable": row,
                "density": left / row,
                "outputs": shape[0],
                "dead_outputs": shape[0] if left == 0 else round(shape[0] * max(0.0, 0.3 - left / row)),
            }
            for label, shape, left, row in zip(labels, shapes, kept, rows, strict=True)
        ],
        "quality": {
            "metric": {"name": metric, "unit": unit, "higher_is_better": classification},
            "dense": {"value": values[0], "loss": 0.3104, "rows": 10_000},
            "before_finetuning": {"value": values[1], "loss": 0.4012, "rows": 10_000},
            "pruned": {"value": values[2], "loss": 0.3287, "rows": 10_000},
        },
        "size": {
            "before": parameters * 4 + 14_212,
            "before_gzip": round(parameters * 3.7),
            "after": parameters * 4 + 14_212,
            "after_gzip": round(parameters * 4 * density * 1.32) + 9_000,
        },
        "operations": {
            "before": None if bare else 40_551_040,
            "effective": None if bare else round(40_551_040 * min(1.0, density * 1.31)),
        },
        "latency": None
        if bare
        else {
            "before": {"median_ms": 0.6124, "p10_ms": 0.5981, "p90_ms": 0.6709},
            "after": {"median_ms": 0.6098, "p10_ms": 0.5960, "p90_ms": 0.6688},
            "ratio": 0.9961,
            "batch": 1,
            "threads": 2,
            "runs": 400,
            "provider": "CPUExecutionProvider",
            "sentence": "onnxruntime multiplies zeros like any other number, so the pruned model is as "
            "fast as the dense one; what the zeros buy is a smaller compressed file.",
        },
        "curve": _curve(points, density, classification),
        "weights": {"edges": edges, "before": dense_counts, "after": after},
        "checks": [
            {
                "name": "exact density",
                "passed": True,
                "detail": f"{sum(kept)} non-zero prunable weights, round({density} x {prunable}) asked for",
            },
            {"name": "onnx checker", "passed": True, "detail": "full check with shape inference"},
            {"name": "loads in onnxruntime", "passed": True, "detail": "CPUExecutionProvider"},
            {
                "name": "agrees with torch",
                "passed": True,
                "detail": "largest relative difference 3.1e-06 of 1e-04",
            },
            {
                "name": "graph unchanged",
                "passed": True,
                "detail": "nodes, names, opset, inputs, outputs, metadata",
            },
        ],
        "durations": {"preparing": 2.31, "baseline": 4.08, "pruning": 512.4, "finetuning": 171.9}
        | {"exporting": 0.42, "verifying": 9.75, "total": 700.86},
        "environment": {
            "prunery": "0.1.0",
            "python": "3.11.9",
            "versions": {"torch": "2.13.0", "onnx": "1.23.2", "onnxruntime": "1.31.1", "numpy": "2.4.6"},
            "platform": "Linux-6.1.0-x86_64-with-glibc2.36",
            "device": "cpu",
            "threads": 2,
            "seed": seed,
            "sandbox": None if bare else "bubblewrap (its own files, processes and network) and seccomp",
        },
        "warnings": [] if bare else ["The graph's input lists no width; 32 was taken from the data."],
    }
    return Report.model_validate(report)


def _shapes(layers: int) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = [(16, 3, 3, 3)]
    widths = [16 * 2 ** min(3 * place // max(layers - 2, 1), 2) for place in range(layers - 2)]
    for before, after in zip([16, *widths], widths, strict=False):
        shapes.append((after, before, 3, 3))
    shapes.append((10, shapes[-1][0]))
    return shapes[:layers] if layers > 1 else [(10, 64)]


def _name(place: int, layers: int) -> str:
    if place == 0:
        return "conv1.weight"
    if place == layers - 1:
        return "linear.weight"
    stage, block = divmod(3 * (place - 1) * 3 // max(layers - 2, 1), 3)
    return f"layer{stage + 1}.{block}.conv{place}.weight"


def _kept(rows: list[int], total: int, draw: random.Random, sparse_everywhere: bool) -> list[int]:
    """Share `total` out: small layers stay denser, no layer beyond its size, the sum is exact."""
    wish = [size**0.7 * draw.uniform(0.6, 1.4) for size in rows]
    if sparse_everywhere:
        wish = [w if place % 5 else 0.0 for place, w in enumerate(wish)]
    scale = total / sum(wish)
    kept = [min(size, int(w * scale)) for size, w in zip(rows, wish, strict=True)]
    while (missing := total - sum(kept)) > 0:
        for place in range(len(rows) - 1, -1, -1):
            if wish[place]:
                step = min(missing, rows[place] - kept[place])
                kept[place] += step
                missing -= step
        wish = [1.0] * len(rows)
    return kept


def _curve(points: int, density: float, measured: bool) -> list[dict[str, Any]]:
    steps = [round(4680 * place / max(points - 1, 1)) for place in range(points)]
    curve = []
    for place, step in enumerate(steps):
        share = step / 4680
        now = density + (1 - density) * max(0.0, 1 - share / 0.6) ** 3
        loss = 0.34 + 0.25 * math.exp(-((share - 0.6) ** 2) / 0.03) + 0.02 * math.sin(40 * share)
        value = (91.3 - 6 * math.exp(-((share - 0.65) ** 2) / 0.03)) if place % 5 == 0 and measured else None
        stage = "pruning" if share < 0.75 else "finetuning"
        curve.append(
            {"step": step, "epoch": step / 390, "stage": stage, "loss": loss, "density": now, "value": value}
        )
    return curve


def with_frontier(report: Report, densities: tuple[float, ...]) -> Report:
    """The report of a run with several densities, densest first; the last is what the rest is about."""
    dense, prunable = report.quality.dense.value, report.density.prunable
    stops = [
        FrontierStop(
            density=density,
            reached=density,
            kept=round(density * prunable),
            value=dense - 0.3 / density**0.5,
            loss=0.1 / density,
            before_finetuning=dense - 1.0 / density**0.5,
            bytes=report.size.after,
            gzip_bytes=round(report.size.before_gzip * density),
            multiply_adds=None
            if report.operations.before is None
            else round(report.operations.before * density),
            latency_ms=1.2,
            latency_ratio=1.0,
            model=f"models/density-{density:g}.onnx",
        )
        for density in densities
    ]
    spec = report.spec.model_copy(update={"density": None, "frontier": densities})
    return report.model_copy(update={"frontier": stops, "spec": spec})


def with_target(report: Report, *, met: bool) -> Report:
    """The report of a run that searched its density."""
    better = report.quality.metric.higher_is_better
    dense, sign = report.quality.dense.value, -1.0 if better else 1.0
    limit = dense + sign * 0.01 * dense
    tried = [
        TriedDensity(
            density=density,
            value=dense + sign * dense * 0.001 / density,
            within=met and density >= 0.1,
            steps=900,
            whole=density == 0.1,
        )
        for density in (0.4, 0.16, 0.064, 0.1, 0.08, 0.09, 0.1)
    ]
    asked = Target(max_accuracy_drop=0.01) if better else Target(max_error_increase=0.01)
    target = TargetInfo(
        asked=asked,
        met=met,
        density=0.1,
        rows=5000,
        dense=dense,
        limit=limit,
        value=dense if met else dense + 2 * (limit - dense),
        tried=tried,
    )
    spec = report.spec.model_copy(update={"density": None, "target": asked})
    return report.model_copy(update={"target": target, "spec": spec})
