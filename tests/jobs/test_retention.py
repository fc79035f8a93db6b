"""What may be removed, and, whatever happens, what may not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.artifacts import checkpoint_key, input_key, output_key
from jobs.listing import ListedFile
from jobs.record import ENDED, Artifact, Checkpoint, CheckpointFile, Job, JobResult, Status
from jobs.retention import Retention, job_id_of, named
from jobs.settings import Settings
from tests.stores import a_job

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def retention(**fields: float) -> Retention:
    return Retention.of(Settings.model_validate({"_env_file": None} | fields))


def job_at(then: datetime, **fields: object) -> Job:
    job_id = f"job_{int(then.timestamp() * 1000):012x}0123456789"
    return a_job(**({"id": job_id, "created_at": then} | fields))


def with_files(job: Job) -> Job:
    output = Artifact(name="model.onnx", bytes=1, sha256="0", key=output_key(job.id, 2, "model.onnx"))
    older = Artifact(name="report.json", bytes=1, sha256="0")
    file = CheckpointFile(
        name="checkpoint.json", key=checkpoint_key(job.id, 1, 3, "checkpoint.json"), bytes=1, sha256="0"
    )
    checkpoint = Checkpoint(files=(file,), step=1, total_steps=2, attempt=1, saved_at=NOW)
    result = JobResult(density=0.1, metrics={}, artifacts=[output, older])
    return job.model_copy(update={"result": result, "checkpoint": checkpoint})


def test_jobs_are_kept_until_they_are_deleted_unless_the_settings_say_otherwise() -> None:
    job = job_at(NOW - 9999 * DAY, status=Status.SUCCEEDED, finished_at=NOW - 9998 * DAY)
    assert retention().expires_at(job) is None
    assert not retention().is_expired(job, NOW)


@pytest.mark.parametrize(
    ("fields", "succeeded", "failed"),
    [
        ({"keep_days": 7}, 7, 7),
        ({"keep_days": 7, "keep_failed_days": 1}, 7, 1),
        ({"keep_failed_days": 1}, None, 1),
    ],
)
def test_a_job_expires_so_many_days_after_its_end(
    fields: dict[str, float], succeeded: int | None, failed: int
) -> None:
    rules = retention(**fields)
    for status, days in (
        (Status.SUCCEEDED, succeeded),
        (Status.FAILED, failed),
        (Status.CANCELLED, failed),
    ):
        job = job_at(NOW - 99 * DAY, status=status, finished_at=NOW)
        expected = None if days is None else NOW + days * DAY
        assert rules.expires_at(job) == expected
        if expected is not None:
            assert not rules.is_expired(job, expected - timedelta(seconds=1))
            assert rules.is_expired(job, expected)


ages = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=4000))
keeps = st.one_of(st.none(), st.floats(min_value=0.01, max_value=400))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(set(Status) - ENDED)), ages, ages, keeps, keeps, st.integers(0, 5))
def test_nothing_of_a_job_that_has_not_ended_is_ever_removed(
    status: Status,
    sent: timedelta,
    modified: timedelta,
    keep: float | None,
    keep_failed: float | None,
    file: int,
) -> None:
    fields = {"keep_days": keep, "keep_failed_days": keep_failed, "stray_hours": 0.01}
    rules = retention(**{name: value for name, value in fields.items() if value is not None})
    # A job that is tried once more has an end behind it.
    job = with_files(job_at(NOW - sent, status=status, finished_at=NOW - sent))
    keys = (
        *sorted(named(job)),
        output_key(job.id, 9, "half"),
        checkpoint_key(job.id, 9, 9, "half.safetensors"),
        f"{job.id}/anything",
    )
    listed = ListedFile(keys[file % len(keys)], 1, NOW - modified)
    assert rules.expires_at(job) is None
    assert not rules.is_expired(job, NOW)
    assert not rules.is_stray(listed, job, NOW)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(ENDED)), ages, st.floats(min_value=0.01, max_value=400))
def test_what_the_record_of_an_ended_job_names_is_no_stray(
    status: Status, age: timedelta, hours: float
) -> None:
    job = with_files(job_at(NOW - age, status=status, finished_at=NOW - age))
    for key in named(job):
        assert not retention(stray_hours=hours).is_stray(ListedFile(key, 1, NOW - age), job, NOW)
    old = ListedFile(output_key(job.id, 1, "model.onnx"), 1, NOW - timedelta(hours=hours))
    assert retention(stray_hours=hours).is_stray(old, job, NOW)


@settings(max_examples=60, deadline=None)
@given(ages, ages, st.floats(min_value=0.01, max_value=400))
def test_a_file_without_a_record_is_a_stray_only_when_it_and_its_job_are_old(
    sent: timedelta, modified: timedelta, hours: float
) -> None:
    job_id = job_at(NOW - sent).id
    stray = retention(stray_hours=hours).is_stray(
        ListedFile(input_key(job_id, "model"), 1, NOW - modified), None, NOW
    )
    least = timedelta(hours=hours)
    assert stray == (modified >= least and sent >= least - timedelta(milliseconds=1)) or abs(
        sent - least
    ) < timedelta(milliseconds=2)


@pytest.mark.parametrize(
    "key", ["prunery-store", "other/data.bin", "job_x", "job_/a", "backup/job_0123456789ab/x"]
)
def test_files_that_are_none_of_ours_are_left_alone(key: str) -> None:
    assert job_id_of(key) is None
    assert not retention(stray_hours=0.01).is_stray(ListedFile(key, 1, NOW - 999 * DAY), None, NOW)
