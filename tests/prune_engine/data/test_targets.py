from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prune_engine.data.targets import TargetScale, find_scale
from prune_engine.errors import PreprocessError


@pytest.fixture
def output() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(200, 2))


@given(
    values=st.lists(st.floats(-100, 100), min_size=1, max_size=20),
    scale=st.floats(0.01, 100),
    offset=st.floats(-100, 100),
)
def test_there_and_back_is_the_same(values: list[float], scale: float, offset: float) -> None:
    labels = np.array(values)
    there = TargetScale((scale,), (offset,), "some")
    back = there.to_labels(there.to_output(labels)).ravel()
    assert np.allclose(back, labels, rtol=1e-4, atol=1e-3 * max(1, scale))


def test_labels_on_the_outputs_scale_stay(output: np.ndarray) -> None:
    scale, warning = find_scale(output, output + 0.1, output + 0.1)
    assert scale.name == "as is"
    assert warning is None


def test_standardised_targets_are_put_right_column_by_column(output: np.ndarray) -> None:
    labels = output / output.std(axis=0) * (5.0, 700.0) + (100.0, -3000.0)
    standard = (labels - labels.mean(axis=0)) / labels.std(axis=0)
    scale, warning = find_scale(standard, labels, labels)
    assert scale.name == "standardised"
    assert np.allclose(scale.to_labels(standard), labels)
    assert warning is not None
    assert "standardised" in warning


def test_a_power_of_ten_is_put_right(output: np.ndarray) -> None:
    scale, _ = find_scale(output, 1000 * output, 1000 * output)
    assert scale.scale == (1000.0,)


def test_another_line_is_reported(output: np.ndarray) -> None:
    with pytest.raises(PreprocessError, match=r"-2\.5 \* output"):
        find_scale(output, -2.5 * output + 30, -2.5 * output + 30)
