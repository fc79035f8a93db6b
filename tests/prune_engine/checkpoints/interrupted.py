"""Trainings that are interrupted: after so many steps, as often as it takes, each time gone on with."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from prune_engine.checkpoints.keeper import Checkpoints
from prune_engine.checkpoints.stopping import StoppedError
from prune_engine.events import Listener, silent
from prune_engine.spec import PruneSpec
from prune_engine.training import Trained, train_for
from tests.prune_engine.training.tasks import CPU, Network, Task


class Interrupting(Checkpoints):
    """Asks for the end after so many steps of an attempt."""

    def __init__(self, folder: Path, steps: float) -> None:
        super().__init__(folder)
        self._until_asked = steps

    def between_steps(self) -> None:
        self._until_asked -= 1
        if self._until_asked <= 0:
            self.stop.ask()
        super().between_steps()


def attempts(steps: float | list[int]) -> Iterator[float]:
    """How many steps each attempt does: always as many, or those and then all that are left."""
    if isinstance(steps, list):
        yield from steps
        yield float("inf")
    else:
        while True:
            yield steps


def train_interrupted(
    network: Network,
    task: Task,
    spec: PruneSpec,
    folder: Path,
    steps: float | list[int],
    emit: Listener = silent,
    start: dict[str, np.ndarray] | None = None,
) -> tuple[list[Trained], int]:
    """What comes of it, and how many attempts it took."""
    for number, left in enumerate(attempts(steps), 1):
        keeper = Interrupting(folder, left)
        keeper.begin("the same", emit)
        given: Any = copy.deepcopy(network)
        try:
            results = list(train_for(given, task, spec, CPU, emit, start, keeper))  # type: ignore[arg-type]
        except StoppedError:
            continue
        return results, number
    raise AssertionError("there is always another attempt")


def train_straight(
    network: Network, task: Task, spec: PruneSpec, start: dict[str, np.ndarray] | None = None
) -> list[Trained]:
    given: Any = copy.deepcopy(network)
    return list(train_for(given, task, spec, CPU, silent, start))  # type: ignore[arg-type]


def assert_same(one: list[Trained], other: list[Trained]) -> None:
    """To the same bits, whatever a report shows of them but durations."""
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert left.spec == right.spec
        assert left.target == right.target
        for kind in ("masks", "before_finetuning"):
            _same_arrays(getattr(left.result, kind), getattr(right.result, kind))
        _same_arrays(left.module.state_values(), right.module.state_values())
        assert left.result.curve == right.result.curve
        assert left.result.settings == right.result.settings
        assert left.result.warnings == right.result.warnings


def _same_arrays(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert value.dtype == right[name].dtype
        assert value.tobytes() == right[name].tobytes(), name
