"""Where the image lies in a row of a model's input, whatever way the data came and the model asks."""

from __future__ import annotations

import pytest
import torch

from prune_engine.data.arrangement import Arrangement, arrangements
from prune_engine.data.plane import Plane, plane_of


@pytest.mark.parametrize(
    ("sent", "wanted", "plane"),
    [
        ((28, 28), (1, 28, 28), Plane(1, 28, 28)),
        ((28, 20), (560,), Plane(1, 28, 20)),
        ((3, 32, 24), (3, 32, 24), Plane(3, 32, 24)),
        ((32, 24, 3), (3, 32, 24), Plane(3, 32, 24)),
        ((32, 24, 3), (32, 24, 3), Plane(3, 32, 24, channels_last=True)),
        ((28, 28), (3, 28, 28), Plane(3, 28, 28)),
        ((784,), (1, 28, 28), Plane(1, 28, 28)),
        ((13,), (13,), None),
        ((784,), (784,), None),
    ],
)
def test_an_image_is_known_by_its_arrangement(
    sent: tuple[int, ...], wanted: tuple[int, ...], plane: Plane | None
) -> None:
    likeliest = arrangements(sent, wanted)[0]
    assert plane_of(likeliest, torch.zeros(2, *sent, dtype=torch.uint8)) == plane


def test_without_rows_nothing_is_known() -> None:
    likeliest = arrangements((28, 28), (1, 28, 28))[0]
    assert plane_of(likeliest, torch.zeros(0, 28, 28)) is None


@pytest.mark.parametrize(
    ("sent", "model", "plane"),
    [
        ((28, 28), (784,), Plane(1, 28, 28)),
        ((28, 28), (1, 28, 28), Plane(1, 28, 28)),
        ((784,), (1, 28, 28), Plane(1, 28, 28)),
        ((3, 32, 24), (3, 32, 24), Plane(3, 32, 24)),
        ((32, 24, 3), (32, 24, 3), Plane(3, 32, 24, channels_last=True)),
        ((3, 32, 24), (2304,), Plane(3, 32, 24)),
        ((10, 32, 24), (10, 32, 24), None),
        ((784,), (784,), None),
    ],
)
def test_an_image_that_is_only_given_another_shape_is_known_too(
    sent: tuple[int, ...], model: tuple[int, ...], plane: Plane | None
) -> None:
    assert plane_of(Arrangement("plain", "as_is", None, model), torch.zeros(2, *sent)) == plane
