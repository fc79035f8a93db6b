"""Latency before and after, measured in turns so that a busy machine slows both alike."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime

from prune_engine.data.running import filled, fixed_batch
from prune_engine.formats import input_infos
from prune_engine.granularity import SINGLE, Granularity
from prune_engine.granularity_text import run_time_note
from prune_engine.measure.runtime import PROVIDER, run_session, session
from prune_engine.report import LatencyInfo, LatencyRun

Array = np.ndarray[Any, Any]

SECONDS = 5.0
MAX_RUNS = 200
MIN_RUNS = 3
WARM_UP = 3
NOISE = 0.05


def measure_latency(
    before: onnx.ModelProto,
    after: onnx.ModelProto,
    feed: Mapping[str, Array],
    *,
    threads: int = 1,
    seconds: float = SECONDS,
    granularity: Granularity = SINGLE,
) -> LatencyInfo:
    """Milliseconds of one inference of each model, in turns A B, B A, A B ..., after a warm-up.

    Args:
        before: the dense model.
        after: the pruned one.
        feed: inputs by name, usually one row; filled up where the graph demands a larger batch.
        threads: of onnxruntime; one is the steadiest.
        seconds: bound on the time all runs take together (each model runs at least three times).
        granularity: in which units the zeros come; what they could buy depends on it.
    """
    feed = filled(feed, fixed_batch(input_infos(before)))
    sessions = (session(before, threads), session(after, threads))
    started = time.perf_counter()
    for turn in range(WARM_UP):
        if turn == 0 or time.perf_counter() - started < seconds / 4:
            for runtime in sessions:
                run_session(runtime, feed)
    times: list[tuple[float, float]] = []
    while len(times) < MIN_RUNS or (len(times) < MAX_RUNS and time.perf_counter() - started < seconds):
        pair = [0.0, 0.0]
        for which in (0, 1) if len(times) % 2 == 0 else (1, 0):
            pair[which] = _time(sessions[which], feed)
        times.append((pair[0], pair[1]))
    first, second = (np.array(column) for column in zip(*times, strict=True))
    ratio = float(np.median(second / first))
    return LatencyInfo(
        before=_summary(first),
        after=_summary(second),
        ratio=ratio,
        batch=len(next(iter(feed.values()))),
        threads=threads,
        runs=len(times),
        provider=PROVIDER,
        sentence=sentence(ratio, granularity),
    )


def sentence(ratio: float, granularity: Granularity = SINGLE) -> str:
    """What zeros do and do not buy at run time, in plain words, from the measured after / before."""
    if ratio > 1 + NOISE:
        found = f"The pruned model took {100 * (ratio - 1):.0f} % longer in onnxruntime than the dense one"
    elif ratio < 1 - NOISE:
        found = f"The pruned model took {100 * (1 - ratio):.0f} % less time in onnxruntime than the dense one"
    else:
        found = f"The pruned model is as fast in onnxruntime as the dense one (ratio {ratio:.2f})"
    return f"{found}. {run_time_note(granularity)}"


def _time(runtime: onnxruntime.InferenceSession, feed: Mapping[str, Array]) -> float:
    started = time.perf_counter()
    run_session(runtime, feed)
    return time.perf_counter() - started


def _summary(seconds: Array) -> LatencyRun:
    low, middle, high = (float(value) * 1000 for value in np.percentile(seconds, (10, 50, 90)))
    return LatencyRun(median_ms=middle, p10_ms=low, p90_ms=high)
