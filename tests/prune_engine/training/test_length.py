"""How long to train: small data get many epochs, large models what their arithmetic allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prune_engine.training.length import choose_batch_size, choose_epochs


def epochs(rows: int, operations: int | None, effort: str = "standard", device: str = "cpu") -> int:
    batch = choose_batch_size(rows)
    return choose_epochs(effort, max(rows // batch, 1), batch, operations, device)[0]  # type: ignore[arg-type]


def test_lenet_on_mnist_trains_about_ten_epochs() -> None:
    assert 8 <= epochs(60_000, 266_200) <= 15


def test_a_thousand_rows_train_for_hundreds_of_epochs() -> None:
    assert epochs(1_400, 6_500) > 50


def test_resnet_on_a_cpu_gets_a_few_epochs_and_more_on_a_gpu() -> None:
    assert 2 <= epochs(50_000, 41_000_000) <= 6
    assert epochs(50_000, 41_000_000, device="cuda") > epochs(50_000, 41_000_000)


@pytest.mark.parametrize("operations", [None, 266_200, 41_000_000])
def test_more_effort_is_longer(operations: int | None) -> None:
    assert (
        epochs(50_000, operations, "quick")
        <= epochs(50_000, operations)
        <= epochs(50_000, operations, "thorough")
    )


@given(rows=st.integers(1, 10**6))
def test_a_batch_never_has_more_rows_than_there_are(rows: int) -> None:
    assert 1 <= choose_batch_size(rows) <= min(rows, 128)
