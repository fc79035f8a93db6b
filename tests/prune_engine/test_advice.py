"""The advice to train longer: where a large model was trained shortly and lost much, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from prune_engine.advice import about_length
from prune_engine.report import Metric, Quality, QualityInfo
from prune_engine.spec import parse_spec
from prune_engine.training.length import choose_epochs

RESNET56 = 125_000_000
"""Multiply-adds of a row."""


def settings_of(operations: int, **changed: Any) -> dict[str, Any]:
    epochs, why = choose_epochs("standard", 390, 128, operations, "cpu")
    settings = {"epochs": epochs, "epochs_why": why, "steps_per_epoch": 390, "total_steps": 390 * epochs}
    return {**settings, "steps_done": 390 * epochs, **changed}


def quality(dense: float, pruned: float, name: Any = "accuracy", unit: str = "%") -> QualityInfo:
    better = name in ("accuracy", "agreement")
    metric = Metric(name=name, unit=unit, higher_is_better=better)
    values = [Quality(value=value, loss=0.1, rows=100) for value in (dense, pruned, pruned)]
    return QualityInfo(metric=metric, dense=values[0], before_finetuning=values[1], pruned=values[2])


def test_a_large_model_that_lost_much_is_told_how_many_epochs_a_small_one_has() -> None:
    (said,) = about_length(parse_spec({"density": 0.05}), settings_of(RESNET56), quality(93.39, 85.74))
    assert "had 1 epoch (standard" in said
    assert "epochs=13 takes about 13 times as long" in said
    assert "2.4e+13 multiply-adds in all on cpu" in said


@pytest.mark.parametrize(
    ("fields", "settings", "measured"),
    [
        ({}, settings_of(RESNET56), quality(93.39, 92.9)),  # hardly anything is lost
        ({}, settings_of(RESNET56), quality(93.39, 94.9)),
        ({"epochs": 1}, settings_of(RESNET56), quality(93.39, 85.74)),  # as asked
        ({}, settings_of(266_200), quality(98.4, 90.0)),  # as long as it is meant to be
        ({}, settings_of(RESNET56, steps_done=100), quality(93.39, 85.74)),  # max_minutes says so itself
        ({}, settings_of(RESNET56, epochs=0, steps_done=0, total_steps=0), quality(93.39, 85.74)),
        ({}, settings_of(RESNET56), quality(50.0, 51.0, "mae", "kUSD")),
    ],
)
def test_nobody_else_is_told(fields: dict[str, Any], settings: dict[str, Any], measured: QualityInfo) -> None:
    assert about_length(parse_spec({"density": 0.05, **fields}), settings, measured) == []


@pytest.mark.parametrize(
    "measured",
    [quality(50.0, 53.0, "mae", "kUSD"), quality(0.0, 0.2, "relative_error", "of the dense output's spread")],
)
def test_errors_count_in_shares(measured: QualityInfo) -> None:
    assert about_length(parse_spec({"density": 0.05}), settings_of(RESNET56), measured)
