"""What moves come to in figures, counted with the move itself."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from jobs.figures import WAIT_BOUNDS, figures_of, observed
from jobs.moves import start, succeed
from jobs.record import Artifact, JobError, JobResult, now
from jobs.settings import Settings
from jobs.store import JobStore
from tests.stores import a_job

RESULT = JobResult(density=0.1, metrics={}, artifacts=[Artifact(name="a", bytes=7, sha256="00" * 32)])


def test_every_bound_that_is_not_passed_counts() -> None:
    assert list(observed("wait:normal", (1, 5, 15), 4.2)) == [
        *("wait:normal:le:5", "wait:normal:le:15", "wait:normal:count", "wait:normal:sum=4200")
    ]


def test_a_first_start_tells_how_long_the_job_waited_and_a_second_one_does_not() -> None:
    job = a_job(created_at=now() - timedelta(seconds=100))
    first = list(figures_of(job, start("w")(job)))
    assert [f for f in first if f.startswith("wait:normal:le:")] == [
        f"wait:normal:le:{bound}" for bound in WAIT_BOUNDS if bound > 100
    ]
    again = a_job(created_at=now() - timedelta(seconds=100), attempt=1)
    assert list(figures_of(again, start("w")(again))) == []


def test_an_end_tells_how_long_the_job_ran_and_what_it_left() -> None:
    job = start("w")(a_job()).job
    figures = list(figures_of(job, succeed(RESULT, (), job.attempt)(job)))
    assert "run:succeeded:count" in figures
    assert "output_bytes=7" in figures


def test_the_store_counts_each_once(store: JobStore, settings: Settings) -> None:
    job = a_job()
    store.create(job)
    running = store.start(job.id, "w")
    store.succeed(job.id, RESULT, attempt=running.attempt)
    lost = a_job()
    store.create(lost)
    store.start(lost.id, "w", lease=0.001)
    why = JobError(code="worker_lost", message="gone")
    while lost.id not in store.lapsed():
        time.sleep(0.01)
    store.take_away(lost.id, why, 3)
    store.count(observed("memory", (1000,), 500.0))
    store.count(observed("memory", (1000,), 500.0))
    totals = store.totals()
    for name, count in {
        "wait:normal:count": 2,
        "run:succeeded:count": 1,
        "output_bytes": 7,
        "leases_lost": 1,
        "given_back:worker_lost": 1,
        "memory:le:1000": 2,
        "memory:sum": 1_000_000,
    }.items():
        assert totals[name] == count, name


@pytest.mark.parametrize("value", [0.0, 10.0**12])
def test_any_value_is_counted(value: float) -> None:
    assert "x:count" in list(observed("x", WAIT_BOUNDS, value))
