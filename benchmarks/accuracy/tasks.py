"""The tasks: data, network, densities, epochs, and what is asked of our method at each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Metric = Literal["accuracy", "rmse"]

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Cell:
    """One column of runs: every method and seed at this density after so many epochs."""

    density: float
    epochs: int
    cuda_epochs: int | None = None

    def length(self, device: str) -> int:
        """Epochs on `device`."""
        return self.cuda_epochs if device == "cuda" and self.cuda_epochs else self.epochs

    @property
    def label(self) -> str:
        """`1.66 %, 30 epochs`."""
        return f"{100 * self.density:g} %, {self.epochs} epochs"


@dataclass(frozen=True)
class Task:
    """A data set and a network.

    Args:
        name: the key in files and on the command line.
        title: for people.
        cells: densities and epochs that are measured.
        held_out: training rows, the last ones, on which settings are chosen.
        chosen_at: where each peer's settings are chosen; a cell takes those of the nearest (by logarithm).
        tries: how many settings of each peer are tried there.
        batch_size: rows a step.
        metric: accuracy in %, or the root of the mean squared error (lower is better).
        unit: of the metric.
        convolutional: trained channels-last and in bfloat16 where the processor has it.
        moves: whether our defaults move its images while they are trained on.
        targets: by density and epochs, the least that our `gumbel` should reach on a CPU.
        margin_at: densities where `gumbel` should be so much above every peer.
        dense_at_least: what the dense nets must reach for the comparison to count.
    """

    name: str
    title: str
    cells: tuple[Cell, ...]
    held_out: int
    chosen_at: tuple[Cell, ...]
    tries: int = 7
    batch_size: int = 128
    metric: Metric = "accuracy"
    unit: str = "%"
    convolutional: bool = False
    moves: bool = False
    targets: dict[tuple[float, int], float] = field(default_factory=dict)
    margin_at: dict[float, float] = field(default_factory=dict)
    dense_at_least: float | None = None

    @property
    def higher_is_better(self) -> bool:
        """Whether more of the metric is better."""
        return self.metric == "accuracy"


def _cells(epochs: int, *densities: float, cuda: int | None = None) -> tuple[Cell, ...]:
    return tuple(Cell(density, epochs, cuda) for density in densities)


_ALL = (
    Task(
        "lenet300",
        "LeNet-300-100 on MNIST",
        (*_cells(30, 0.05, 0.02, 0.0166, 0.01, 0.005, 0.0015), Cell(0.0197, 10)),
        held_out=5_000,
        chosen_at=_cells(30, 0.01),
        moves=True,
        targets={
            (0.0166, 30): 98.4,
            (0.01, 30): 98.2,
            (0.005, 30): 97.6,
            (0.0015, 30): 95.5,
            (0.0197, 10): 98.4,
        },
        dense_at_least=98.3,
    ),
    Task(
        "housing",
        "13-128-64-1 on California housing",
        _cells(30, 0.2, 0.05, 0.01),
        held_out=2_000,
        chosen_at=_cells(30, 0.05),
        metric="rmse",
        unit="1000 USD",
    ),
    Task(
        "sst2",
        "A small transformer on SST-2",
        _cells(10, 0.2, 0.1, 0.05),
        held_out=700,
        chosen_at=_cells(10, 0.1),
        batch_size=32,
    ),
    Task(
        "resnet20",
        "ResNet-20 on CIFAR-10",
        _cells(5, 0.2, 0.1, 0.05, 0.02, cuda=40),
        held_out=5_000,
        chosen_at=_cells(5, 0.05),
        tries=6,
        convolutional=True,
        margin_at={0.05: 1.0},
        dense_at_least=91.7,
    ),
    Task(
        "lenet5",
        "LeNet-5-Caffe on MNIST",
        _cells(30, 0.02, 0.008, 0.0033),
        held_out=5_000,
        chosen_at=_cells(30, 0.008),
        tries=6,
        convolutional=True,
        moves=True,
        targets={(0.008, 30): 99.2, (0.0033, 30): 99.0},
    ),
    Task(
        "digits",
        "64-64-32-10 on scikit-learn's digits (the quick form)",
        _cells(10, 0.2, 0.05),
        held_out=200,
        chosen_at=_cells(10, 0.1),
        batch_size=32,
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}
QUICK = ("digits",)
FULL = tuple(name for name in TASKS if name not in QUICK)
