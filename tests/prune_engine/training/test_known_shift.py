"""Whether images may be moved in training is asked of the dense model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_engine.data.plane import Plane
from prune_engine.report import Metric
from prune_engine.training.known_shift import known_mirrored, known_shift
from tests.prune_engine.training.tasks import MemoryRows, Network, Task

SIDE = 28
SPOTS = ((7, 7), (7, 20), (20, 7), (20, 20))


@dataclass(frozen=True)
class Images(MemoryRows):
    planes: tuple[Plane | None, ...] = (Plane(1, SIDE, SIDE),)


class Reads(nn.Module):
    """Answers the spot around which the image is brightest, `blurred` pixels to each side."""

    def __init__(self, blurred: int) -> None:
        super().__init__()
        self.blurred = blurred

    def forward(self, x: Tensor) -> Tensor:
        near = nn.functional.max_pool2d(x, 2 * self.blurred + 1, 1, self.blurred)
        return 10.0 * torch.stack([near[:, 0, line, column] for line, column in SPOTS], dim=1)


def task(side: int = SIDE, kind: str = "classification") -> Task:
    """Images with one bright spot, whose place is the class."""
    labels = torch.arange(400) % 4
    x = torch.zeros(400, 1, side, side)
    for row, label in enumerate(labels.tolist()):
        line, column = SPOTS[label]
        x[row, 0, line % side, column % side] = 1.0
    rows: Any = Images(x, labels, (Plane(1, side, side),))
    return Task(kind, "cross_entropy", Metric(name="accuracy", unit="%", higher_is_better=True), rows, rows)


def test_images_are_moved_where_the_model_still_knows_them() -> None:
    pixels, why = known_shift(Network(nn.Sequential(Reads(1))), task())  # type: ignore[arg-type]
    assert (pixels, why) == (1, "the dense model still knows 100% of what it knew")


def test_they_stay_where_the_place_is_what_it_reads() -> None:
    pixels, why = known_shift(Network(nn.Sequential(Reads(0))), task())  # type: ignore[arg-type]
    assert pixels == 0
    assert "moved by 1" in why


class Halves(nn.Module):
    """Answers whether the spot is in the upper half; with `sides` it also tells left from right."""

    def __init__(self, *, sides: bool) -> None:
        super().__init__()
        self.sides = sides

    def forward(self, x: Tensor) -> Tensor:
        upper, lower = x[:, 0, : SIDE // 2], x[:, 0, SIDE // 2 :]
        parts = [part.flatten(1).amax(1) for half in (upper, lower) for part in half.tensor_split(2, dim=2)]
        scores = 10.0 * torch.stack(parts, dim=1)
        return scores if self.sides else torch.stack([scores[:, :2].amax(1), scores[:, 2:].amax(1)], dim=1)


def test_images_are_mirrored_where_the_model_still_knows_them() -> None:
    rows = task()
    halves = replace(rows, train=Images(rows.train.x, rows.train.y // 2))
    mirrored, why = known_mirrored(Network(nn.Sequential(Halves(sides=False))), halves)  # type: ignore[arg-type]
    assert (mirrored, why) == (True, "the dense model still knows 100% of what it knew")


def test_they_are_not_where_left_and_right_are_what_it_tells_apart() -> None:
    mirrored, why = known_mirrored(Network(nn.Sequential(Halves(sides=True))), task())  # type: ignore[arg-type]
    assert not mirrored
    assert why == "mirrored, the dense model still knows only 0% of what it knew"


def test_what_looks_the_same_in_the_mirror_says_nothing() -> None:
    rows = task()
    both = replace(rows, train=Images(rows.train.x + rows.train.x.flip(3), rows.train.y // 2))
    network = Network(nn.Sequential(Halves(sides=False)))
    assert known_mirrored(network, both) == (False, "mirrored, they are the same")  # type: ignore[arg-type]


def test_what_is_no_image_with_a_class_is_not_mirrored() -> None:
    given = task(kind="regression")
    assert known_mirrored(Network(nn.Sequential(nn.Flatten())), given) == (False, "no images with classes")  # type: ignore[arg-type]


def test_a_model_that_guesses_is_not_asked() -> None:
    ignorant = Network(nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 4)))
    with torch.no_grad():
        for parameter in ignorant.net.parameters():
            parameter.zero_()
    pixels, why = known_shift(ignorant, task())  # type: ignore[arg-type]
    assert pixels == 0
    assert "knows too little" in why


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (task(kind="regression"), "no images with classes"),
        (replace(task(), train=MemoryRows(task().train.x, task().train.y)), "no images with classes"),
        (task(side=14), "images of less than 16 pixels"),
    ],
)
def test_what_is_no_image_of_some_size_stays(given: Task, reason: str) -> None:
    assert known_shift(Network(nn.Sequential(nn.Flatten())), given) == (0, reason)  # type: ignore[arg-type]


def test_a_demanded_batch_size_is_kept_and_the_mode_too() -> None:
    class Fixed(Reads):
        def forward(self, x: Tensor) -> Tensor:
            assert len(x) == 64
            assert not self.training
            return super().forward(x)

    network = Network(nn.Sequential(Fixed(1)))
    network.train()
    assert known_shift(network, replace(task(), fixed_batch=64))[0] == 1  # type: ignore[arg-type]
    assert network.training
