from __future__ import annotations

import time

import numpy as np
import pytest

from prune_engine.measure import measure_latency
from prune_engine.measure.latency import sentence
from tests.prune_engine.data.nets import mlp


def net(width: int, batch: int | str = "N") -> object:
    rng = np.random.default_rng(0)
    return mlp(
        [(rng.normal(size=(64, width)), np.zeros(width)), (rng.normal(size=(width, 4)), np.zeros(4))],
        batch=batch,
    )


def test_both_models_are_timed_within_the_bound() -> None:
    row = {"input": np.zeros((1, 64), np.float32)}
    started = time.perf_counter()
    info = measure_latency(net(32), net(20_000), row, seconds=0.5)
    assert time.perf_counter() - started < 5
    assert (info.batch, info.threads, info.provider) == (1, 1, "CPUExecutionProvider")
    assert info.runs >= 3
    assert info.ratio > 1
    assert info.before.p10_ms <= info.before.median_ms <= info.before.p90_ms


def test_a_batch_size_in_the_graph_is_filled_up() -> None:
    info = measure_latency(net(32, 4), net(32, 4), {"input": np.zeros((1, 64), np.float32)}, seconds=0.1)
    assert info.batch == 4


@pytest.mark.parametrize(
    ("ratio", "says"),
    [(1.0, "as fast"), (1.04, "as fast"), (0.5, "50 % less time"), (1.25, "25 % longer")],
)
def test_the_sentence_says_what_was_measured_and_what_zeros_buy(ratio: float, says: str) -> None:
    text = sentence(ratio)
    assert says in text
    assert "multiply zeros" in text
    assert "compression" in text
