from __future__ import annotations

import pytest
import torch

from prune_engine.data.arrangement import arrangements
from prune_engine.data.candidates import scalings


def names(rows: torch.Tensor, wanted: tuple[int, ...]) -> list[str]:
    return [name for name, _ in scalings(rows, arrangements(tuple(rows.shape[1:]), wanted)[0])]


@pytest.fixture
def photos() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (50, 6, 5, 3), dtype=torch.uint8, generator=generator)


def test_the_simplest_come_first(photos: torch.Tensor) -> None:
    assert names(photos, (3, 6, 5)) == [
        "[0, 1]",
        "[0, 255]",
        "[-1, 1]",
        "the data's mean and std by channel",
        "the data's mean and std",
        "ImageNet mean and std",
        "CIFAR-10's usual mean and std",
    ]


def test_grey_images_try_mnists_constants_and_repeated_ones_imagenets(photos: torch.Tensor) -> None:
    grey = photos[..., 0]
    assert "MNIST's usual mean and std" in names(grey, (1, 6, 5))
    assert "ImageNet mean and std" not in names(grey, (1, 6, 5))
    assert "ImageNet mean and std" in names(grey, (3, 6, 5))


def test_images_that_are_scaled_already_are_first_taken_as_they_are(photos: torch.Tensor) -> None:
    assert names(photos / 255, (3, 6, 5))[0] == "as is"
    normalised = (photos / 255 - 0.5) / 0.25
    assert names(normalised, (3, 6, 5))[0] == "as is"
    assert "ImageNet mean and std" not in names(normalised, (3, 6, 5))


def test_the_datas_own_constants_are_its_mean_and_std(photos: torch.Tensor) -> None:
    steps = dict(scalings(photos, arrangements((6, 5, 3), (3, 6, 5))[0]))
    step = steps["the data's mean and std by channel"]
    assert step.mean == pytest.approx((photos / 255).mean(dim=(0, 1, 2)).tolist(), abs=1e-5)
    assert step.layout == "nchw"


def test_a_constant_column_is_not_divided_by_zero() -> None:
    table = torch.tensor([[1.0, 7.0], [2.0, 7.0], [3.0, 7.0]], dtype=torch.float64)
    steps = dict(scalings(table, arrangements((2,), (2,))[0]))
    assert list(steps) == ["as is", "standardised columns", "columns in [0, 1]"]
    assert steps["standardised columns"].std[1] == 1
    assert steps["columns in [0, 1]"].std == (2, 1)


def test_no_candidate_is_tried_twice(photos: torch.Tensor) -> None:
    for wanted in ((3, 6, 5), (90,), (1, 6, 5)):
        steps = [step for _, step in scalings(photos, arrangements((6, 5, 3), wanted)[0])]
        assert len(steps) == len(set(steps))
