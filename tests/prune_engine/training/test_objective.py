"""What the module sees of moved images, and what the teacher sees."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from prune_engine import PruneSpec
from prune_engine.data.plane import Plane
from prune_engine.report import Metric
from prune_engine.training.augmentation import Shifts
from prune_engine.training.density_rule import FEWEST_MOVED
from prune_engine.training.objective import Objective
from prune_engine.training.subject import Subject
from tests.prune_engine.training.tasks import CPU, MemoryRows, Network, Task

SIDE = 16
PLANE = Plane(1, SIDE, SIDE)
ROWS = torch.arange(8)


@dataclass(frozen=True)
class Images(MemoryRows):
    planes: tuple[Plane | None, ...] = (PLANE,)

    def to(self, device: torch.device) -> Images:
        return self


class Spy(nn.Module):
    """Notes what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(SIDE * SIDE, 3)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        out: Tensor = self.linear(x.flatten(1))
        return out


def images() -> Task:
    """Blots in the middle of the image; the dense net of `known` tells them apart."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(64, 1, SIDE, SIDE)
    x[:, :, 4:12, 4:12] = torch.rand(64, 1, 8, 8, generator=generator)
    y = torch.arange(64) % 3
    for label in range(3):
        x[y == label, :, 4 + 3 * label : 6 + 3 * label] += 5.0
    rows = Images(x, y)
    metric = Metric(name="accuracy", unit="%", higher_is_better=True)
    return Task("classification", "cross_entropy", metric, rows, rows)


def known() -> Network:
    """Sums up the lines that each class is brightest in, and those next to them."""
    network = Network(nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 3)))
    weight = torch.zeros(3, SIDE, SIDE)
    for label in range(3):
        weight[label, 4 + 3 * label : 6 + 3 * label] = 0.05
    with torch.no_grad():
        network.weights["1.weight"].copy_(weight.flatten(1))
        network.weights["1.bias"].zero_()
    return network


def test_the_module_sees_moved_rows_and_other_ones_at_another_step() -> None:
    task, spy = images(), Spy()
    objective = Objective(Network(nn.Sequential(spy)), task, 0.0, 2.0, 0)  # type: ignore[arg-type]
    shifts = objective.shifts = Shifts((PLANE,), 2, seed=3)
    objective.backward(ROWS, 5)
    objective.backward(ROWS, 6)
    still = task.train.x[ROWS]
    assert torch.equal(spy.seen[0], shifts((still,), ROWS, 5)[0])
    assert torch.equal(spy.seen[1], shifts((still,), ROWS, 6)[0])
    assert not torch.equal(spy.seen[0], spy.seen[1])
    objective.shifts = None
    objective.backward(ROWS, 5)
    assert torch.equal(spy.seen[2], still)


def test_the_teacher_sees_rows_as_they_are() -> None:
    task, network = images(), known()
    objective = Objective(network, task, 1.0, 2.0, 64)  # type: ignore[arg-type]
    assert float(objective.backward(ROWS)) == pytest.approx(0.0, abs=1e-6)
    objective.shifts = Shifts((PLANE,), 2)
    assert float(objective.backward(ROWS)) > 1e-3


@pytest.mark.parametrize(
    ("fields", "share"),
    [
        ({}, 1.0),
        ({"epochs": 5}, 0.0),
        ({"augmentation": "off"}, 0.0),
        ({"acceleration": "off"}, 0.0),
        ({"density": 0.004}, FEWEST_MOVED),
    ],
)
def test_the_settings_say_whether_images_are_moved(fields: dict[str, object], share: float) -> None:
    spec = PruneSpec.model_validate({"density": 0.2, "epochs": 10, "batch_size": 16, **fields})
    subject = Subject(known(), images(), spec, CPU)  # type: ignore[arg-type]
    settings = subject.settings(spec)
    shifts = subject.shifts(settings)
    assert (shifts is not None) is (share > 0.0)
    if shifts is not None:
        assert (settings.shift_pixels, settings.mirrored) == (shifts.pixels, shifts.mirror) == (1, True)
        assert settings.shift_share == shifts.share == share
        assert "still knows" in settings.shift_why
        assert "still knows" in settings.mirrored_why
