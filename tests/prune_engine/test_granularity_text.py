"""The page speaks of blocks and groups where they are meant, and says what they buy at run time."""

from __future__ import annotations

import pytest

from prune_engine.granularity import parse_granularity
from prune_engine.granularity_text import kept_sentence, run_time_note
from prune_engine.measure.latency import sentence
from prune_engine.page import render_html
from prune_engine.report import Report
from prune_engine.typography import THIN
from tests.prune_engine.sample_report import sample_report


def of(granularity: str, kept: int, prunable: int, requested: float, **spec: object) -> Report:
    report = sample_report()
    density = {"kept": kept, "prunable": prunable, "requested": requested, "reached": kept / prunable}
    return report.model_copy(
        update={
            "spec": report.spec.model_copy(update={"granularity": granularity, **spec}),
            "density": report.density.model_copy(update=density),
        }
    )


def test_blocks_are_counted_as_blocks() -> None:
    said = kept_sentence(of("4x4", 3_200, 32_000, 0.1))
    assert said.startswith(f"200 of 2{THIN}000 blocks of 4x4 (outputs by inputs) are left, ")
    assert said.endswith(f"3{THIN}200 of 32{THIN}000 prunable weights: density 0.1 as asked, to the block.")
    assert "asked for: 0.2" in kept_sentence(of("4x4", 3_200, 32_000, 0.2))


def test_the_nearest_number_of_blocks_is_exact() -> None:
    assert "to the block" in kept_sentence(of("4x4", 16, 64, 0.3))


def test_a_pattern_needs_no_density() -> None:
    said = kept_sentence(of("2:4", 500, 1000, 0.5))
    assert said == (
        f"500 of 1{THIN}000 prunable weights are left: exactly 2 of every 4 along the inputs, "
        "in each of 250 groups."
    )


@pytest.mark.parametrize(
    ("granularity", "words"),
    [
        ("2:4", ["onnxruntime makes no use of 2:4", "NVIDIA GPUs from Ampere on"]),
        ("1:8", ["onnxruntime makes no use of 1:8", "take 2:4, not 1:8"]),
        ("16x16", ["onnxruntime makes no use of zero blocks", "block-sparse matrices of 16x16"]),
        ("weight", ["single zeros alone buy no time"]),
    ],
)
def test_what_zeros_buy_is_told_for_each_granularity(granularity: str, words: list[str]) -> None:
    said = sentence(1.0, parse_granularity(granularity))
    assert said.startswith("The pruned model is as fast in onnxruntime as the dense one")
    assert all(word in said for word in words)
    assert run_time_note(parse_granularity(granularity)) in said


def test_the_page_shows_units_and_bounds() -> None:
    plain = render_html(sample_report())
    assert ">bounds</th>" not in plain
    report = of("4x4", 3_200, 32_000, 0.1, layer_density={"*": (0.05, None)})
    rows = [row.model_copy(update={"least": 0.05}) for row in report.layers]
    page = render_html(report.model_copy(update={"layers": rows}))
    assert ">bounds</th>" in page
    assert "0.05 to 1" in page
    assert "whole blocks of 4 outputs by 4 inputs" in page
