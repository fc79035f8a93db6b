"""The training curve, and the progress events that are sent while it grows."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import get_args

import torch
from torch import Tensor

from prune_engine.errors import DivergedError
from prune_engine.events import Listener, Progress, ProgressEvent, Stage
from prune_engine.report import CurvePoint
from prune_engine.state import State, tensor_of

POINTS = 200
SECONDS_BETWEEN_EVENTS = 0.25
CHECK_EVERY = 16
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class Stop:
    """Which of several densities is being trained for; how many there will be, where that is known."""

    stop: int
    stops: int | None
    target_density: float


class Curve:
    """Collects loss and density; at most 200 points and four events a second come of it.

    Attributes:
        points: so far.
        stop: named in events from now on; None: there is one density only.

    Args:
        total_steps: steps that are planned.
        steps_per_epoch: training steps an epoch.
        emit: who is told.
        metric: name of the metric in events.
    """

    def __init__(self, total_steps: int, steps_per_epoch: int, emit: Listener, metric: str) -> None:
        self.points: list[CurvePoint] = []
        self._total_steps = total_steps
        self._steps_per_epoch = steps_per_epoch
        self._emit = emit
        self._metric = metric
        self._every = max(total_steps // POINTS, 1)
        self._sum: Tensor | None = None
        self._count = 0
        self._started = time.monotonic()
        self._told = 0.0
        self.stop: Stop | None = None

    def step(self, step: int, loss: Tensor, stage: Stage, density: float, progress: float) -> None:
        """Note the loss of training step number `step` (from 1).

        Raises:
            DivergedError: the loss is NaN or infinite; looked at every few steps.
        """
        value = loss.detach()
        self._sum = value if self._sum is None else self._sum + value
        self._count += 1
        point = step % self._every == 0 or step >= self._total_steps
        if point or step % CHECK_EVERY == 0 or step <= 2:
            mean = float(self._sum) / self._count
            if not math.isfinite(mean):
                raise DivergedError(
                    f"the loss became {mean} at training step {step} of {self._total_steps} ({stage}); "
                    "try a lower learning_rate, a higher density, or another seed",
                    param="learning_rate",
                )
            if point:
                epoch = step / self._steps_per_epoch
                self.points.append(
                    CurvePoint(step=step, epoch=epoch, stage=stage, loss=mean, density=density)
                )
                self._sum, self._count = None, 0
            self._tell(step, mean, stage, density, progress)

    def measured(self, value: float) -> None:
        """The metric at the last point."""
        if self.points:
            self.points[-1] = self.points[-1].model_copy(update={"value": value})
            self._told = 0.0

    def go_on(self, elapsed: float) -> None:
        """So many seconds were spent on what there is, for the estimate of what is left."""
        self._started = time.monotonic() - elapsed

    def state(self) -> State:
        """The points so far, a row each, and what is summed up for the next."""
        summed = {} if self._sum is None else {"sum": self._sum}
        return {"points": as_rows(self.points), "count": self._count, **summed}

    def load(self, state: State) -> None:
        """Go on from `state()`; points that came after it are forgotten."""
        self.points = as_points(tensor_of(state, "points"))
        self._count = int(state["count"])
        self._sum = tensor_of(state, "sum").clone() if "sum" in state else None

    def _tell(self, step: int, loss: float, stage: Stage, density: float, progress: float) -> None:
        now = time.monotonic()
        if now - self._told < SECONDS_BETWEEN_EVENTS and step < self._total_steps:
            return
        self._told = now
        metrics = {"loss": loss, "density": density}
        measured = next((point.value for point in reversed(self.points) if point.value is not None), None)
        if measured is not None:
            metrics[self._metric] = measured
        elapsed = now - self._started
        eta = elapsed * (1.0 - progress) / progress if progress > 0.0 else None
        stop = {} if self.stop is None else asdict(self.stop)
        state = Progress(
            fraction=min(progress, 1.0), step=step, total_steps=self._total_steps, eta_seconds=eta, **stop
        )
        self._emit(ProgressEvent(stage=stage, progress=state, metrics=metrics))


def as_rows(points: Sequence[CurvePoint]) -> Tensor:
    """A row a point, (points, 6), float64."""
    rows = [
        (
            point.step,
            point.epoch,
            STAGES.index(point.stage),
            point.loss,
            point.density,
            math.nan if point.value is None else point.value,
        )
        for point in points
    ]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), 6)


def as_points(rows: Tensor) -> list[CurvePoint]:
    """The points of `as_rows`."""
    return [
        CurvePoint(
            step=int(step),
            epoch=epoch,
            stage=STAGES[int(stage)],
            loss=loss,
            density=density,
            value=None if math.isnan(value) else value,
        )
        for step, epoch, stage, loss, density, value in rows.tolist()
    ]
