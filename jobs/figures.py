"""What the moves of jobs come to in figures: counted in the same commit as the move, so each counts once.

The figures are in the store and not in the worker that made the move. So they survive it, every API shows the
sum over all workers at `/metrics`, and nothing has to find and ask the workers. A counter is a field of the
hash `totals`; `name=5` counts up by five. A histogram is a counter for each bound, `wait:normal:le:60`, and
one for the sum in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from jobs.moves import Change
from jobs.record import ENDED, Job, Status, now

# Seconds: from what nobody notices to what somebody should look into.
WAIT_BOUNDS: Final = (1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400)
RUN_BOUNDS: Final = (5, 15, 60, 300, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)
# Bytes.
MEMORY_BOUNDS: Final = tuple(2**power * 1024**2 for power in range(7, 18))  # 128 MiB to 128 GiB


def figures_of(old: Job | None, change: Change) -> Iterator[str]:
    """What a change adds to the totals, besides those that the move names itself."""
    job = change.job
    if (
        old is not None
        and job.status is Status.RUNNING
        and old.status is not Status.RUNNING
        and not old.attempt
    ):
        yield from observed(f"wait:{job.priority}", WAIT_BOUNDS, _since(old.created_at))
    if job.status in ENDED and old is not None and old.status not in ENDED and job.started_at is not None:
        yield from observed(f"run:{job.status.value}", RUN_BOUNDS, _since(job.started_at))
    if job.result is not None and (old is None or old.result is None):
        yield f"output_bytes={sum(file.bytes for file in job.result.artifacts)}"
    if change.if_lapsed:
        yield "leases_lost"
    yield from ("checkpoints" for event in change.events if event["type"] == "checkpoint")


def observed(name: str, bounds: Iterable[int], value: float) -> Iterator[str]:
    """One observation of a histogram. Bounds that are reached are counted each, as Prometheus wants them."""
    yield from (f"{name}:le:{bound}" for bound in bounds if value <= bound)
    yield f"{name}:count"
    yield f"{name}:sum={round(value * 1000)}"


def _since(then: datetime) -> float:
    return max(timedelta(0), now() - then).total_seconds()
