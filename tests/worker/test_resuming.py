"""A run that ends before its job: the job goes back, and the next run goes on from the last checkpoint."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest

from jobs.artifacts import checkpoints_prefix, key_of
from jobs.record import Job, JobError, Status
from tests.worker.conftest import Bench

Eventually = Callable[..., None]


def in_background(bench: Bench, job: Job, child: str, **settings: object) -> threading.Thread:
    thread = threading.Thread(target=bench.supervisor(child, **settings).run, args=(job.id,))
    thread.start()
    return thread


def steps_done(bench: Bench, job: Job) -> list[int]:
    """The process that did each step."""
    job = bench.store.get(job.id)
    assert job.result is not None
    report = next(file for file in job.result.artifacts if file.name == "report.json")
    got = bench.folder / "got"
    bench.artifacts.fetch_file(key_of(job.id, report), got)
    steps: list[int] = json.loads(got.read_text())
    return steps


def reasons(bench: Bench, job: Job) -> list[str]:
    return [
        event["reason"]["code"]  # type: ignore[index]
        for event in bench.events(job, "status")
        if "reason" in event
    ]


def test_a_crashed_child_is_followed_by_one_that_goes_on_from_the_last_checkpoint(bench: Bench) -> None:
    job = bench.submit()
    supervisor = bench.supervisor("crashes_once")
    supervisor.run(job.id)
    back = bench.store.get(job.id)
    assert (back.status, back.failures, back.stage) == (Status.QUEUED, 1, None)
    assert back.checkpoint is not None
    assert (back.checkpoint.step, back.checkpoint.attempt) == (4, 1)
    supervisor.run(job.id)
    done = bench.store.get(job.id)
    assert (done.status, done.attempt, done.checkpoint) == (Status.SUCCEEDED, 2, None)
    first, second = (int(str(event["pid"])) for event in bench.events(job, "started"))
    assert steps_done(bench, job) == [first] * 4 + [second] * 6
    assert reasons(bench, job) == ["child_crashed"]
    assert bench.artifacts.keys(checkpoints_prefix(job.id)) == []


def test_a_child_that_crashes_every_time_fails_the_job_after_the_last_attempt(bench: Bench) -> None:
    job = bench.submit()
    supervisor = bench.supervisor("segfaults")
    for _ in range(3):
        supervisor.run(job.id)
    ended = bench.store.get(job.id)
    assert ended.error is not None
    assert ended.error.code == "child_crashed"
    assert ended.error.message.endswith("(3 attempts were made)")


def test_a_child_that_hangs_is_ended_and_followed_by_another(bench: Bench) -> None:
    job = bench.submit()
    supervisor = bench.supervisor("hangs", silence_seconds=1.0, max_attempts=2)
    supervisor.run(job.id)
    back = bench.store.get(job.id)
    assert (back.status, back.failures) == (Status.QUEUED, 1)
    assert reasons(bench, job) == ["child_silent"]
    supervisor.run(job.id)
    ended = bench.store.get(job.id)
    assert ended.error is not None
    assert ended.error.code == "child_silent"
    assert "said nothing for 1 s" in ended.error.message
    assert bench.scratch_left() == []


def test_a_child_that_speaks_now_and_then_is_not_silent(bench: Bench) -> None:
    assert bench.run("slow", silence_seconds=2.0).status is Status.SUCCEEDED


def test_what_the_child_says_is_wrong_with_the_input_is_final(bench: Bench) -> None:
    assert bench.run("refuses").attempt == 1


def test_a_stopping_worker_keeps_a_checkpoint_and_gives_the_job_back(
    bench: Bench, eventually: Eventually
) -> None:
    job = bench.submit()
    thread = in_background(bench, job, "trains_long")
    eventually(lambda: len(bench.events(job, "progress")) > 1)
    bench.stop.set()
    thread.join(20)
    back = bench.store.get(job.id)
    assert (back.status, back.failures, back.lease) == (Status.QUEUED, 0, None)
    assert back.checkpoint is not None
    assert reasons(bench, job) == ["worker_stopped"]
    assert bench.scratch_left() == []
    bench.stop.clear()
    bench.supervisor("trains_long").run(job.id)
    done = steps_done(bench, job)
    first, second = (int(str(event["pid"])) for event in bench.events(job, "started"))
    assert done == [first] * back.checkpoint.step + [second] * (100 - back.checkpoint.step)


@pytest.mark.parametrize("child", ["hangs", "ignores_sigterm"])
def test_a_child_that_keeps_no_checkpoint_in_time_is_ended_and_its_job_goes_back(
    bench: Bench, eventually: Eventually, child: str
) -> None:
    job = bench.submit()
    thread = in_background(bench, job, child)
    eventually(lambda: bench.events(job, "progress"))
    bench.stop.set()
    thread.join(10)
    assert not thread.is_alive()
    back = bench.store.get(job.id)
    assert (back.status, back.checkpoint) == (Status.QUEUED, None)


def test_a_paused_job_goes_on_where_it_was(bench: Bench, eventually: Eventually) -> None:
    job = bench.submit()
    thread = in_background(bench, job, "trains_long")
    eventually(lambda: len(bench.events(job, "progress")) > 1)
    assert bench.store.request_pause(job.id).status is Status.PAUSING
    thread.join(20)
    paused = bench.store.get(job.id)
    assert (paused.status, paused.lease, paused.failures) == (Status.PAUSED, None, 0)
    assert paused.checkpoint is not None
    bench.store.resume(job.id)
    bench.supervisor("trains_long").run(job.id)
    assert bench.store.get(job.id).status is Status.SUCCEEDED
    assert len(set(steps_done(bench, job))) == 2


def test_a_cancel_of_a_pausing_job_wins(bench: Bench, eventually: Eventually) -> None:
    job = bench.submit()
    thread = in_background(bench, job, "ignores_sigterm", stop_grace_seconds=60.0)
    eventually(lambda: bench.events(job, "progress"))
    bench.store.request_pause(job.id)
    eventually(lambda: bench.store.get(job.id).status is Status.PAUSING)
    bench.store.request_cancel(job.id)
    thread.join(10)
    assert bench.store.get(job.id).status is Status.CANCELLED


def test_a_failed_job_that_is_retried_goes_on_from_its_checkpoint(bench: Bench) -> None:
    job = bench.submit()
    bench.supervisor("crashes_late", max_attempts=1).run(job.id)
    failed = bench.store.get(job.id)
    assert failed.status is Status.FAILED
    assert failed.checkpoint is not None
    bench.store.retry(job.id)
    bench.supervisor("trains").run(job.id)
    assert bench.store.get(job.id).status is Status.SUCCEEDED
    assert len(set(steps_done(bench, job))) == 2


def test_checkpoints_are_told_of_and_only_the_last_is_kept(bench: Bench) -> None:
    job = bench.submit()
    bench.supervisor("crashes_late", max_attempts=1).run(job.id)
    told = [event["step"] for event in bench.events(job, "checkpoint")]
    assert told[-1] == 4
    kept = bench.store.get(job.id).checkpoint
    assert kept is not None
    assert [file.name for file in kept.files] == ["checkpoint-4.safetensors", "checkpoint.json"]
    assert sorted(bench.artifacts.keys(checkpoints_prefix(job.id))) == sorted(f.key for f in kept.files)


def test_a_checkpoint_that_is_gone_is_said_and_the_job_begins_anew(bench: Bench) -> None:
    job = bench.submit()
    supervisor = bench.supervisor("crashes_once")
    supervisor.run(job.id)
    checkpoint = bench.store.get(job.id).checkpoint
    assert checkpoint is not None
    bench.artifacts.delete_files([checkpoint.files[0].key])
    bench.supervisor("trains").run(job.id)
    assert "begins anew" in str(bench.events(job, "warning")[-1]["message"])
    assert len(set(steps_done(bench, job))) == 1


def test_a_run_that_lost_its_job_ends_its_child_and_leaves_the_next_ones_files_alone(
    bench: Bench, eventually: Eventually
) -> None:
    job = bench.submit()
    thread = in_background(bench, job, "trains_long")
    eventually(lambda: bench.store.get(job.id).checkpoint is not None)
    lost = JobError(code="worker_lost", message="gone")
    bench.store.take_away(job.id, lost, 3, at_once=True)
    bench.supervisor("trains").run(job.id)
    thread.join(10)
    assert not thread.is_alive()
    done = bench.store.get(job.id)
    assert (done.status, done.attempt) == (Status.SUCCEEDED, 2)
    assert done.result is not None
    named = {key_of(job.id, file) for file in done.result.artifacts}
    eventually(lambda: set(bench.artifacts.keys(job.id)) - {f"{job.id}/input/model"} == named)
    assert all("/output/2/" in key for key in named)


def test_a_worker_whose_disk_fails_gives_the_job_back_and_rests(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("worker.inputs.write_inputs", full)
    job = bench.submit()
    supervisor = bench.supervisor("good")
    supervisor.run(job.id)
    assert bench.store.get(job.id).status is Status.QUEUED
    assert reasons(bench, job) == ["disk_full"]
    assert supervisor._unwell == 1
    monkeypatch.undo()
    supervisor.run(job.id)
    assert bench.store.get(job.id).status is Status.SUCCEEDED
    assert supervisor._unwell == 0


def test_a_child_without_disk_is_tried_again(bench: Bench) -> None:
    job = bench.run("out_of_disk")
    assert (job.status, job.failures) == (Status.QUEUED, 1)
    assert reasons(bench, job) == ["disk_full"]
