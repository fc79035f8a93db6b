from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import pytest

from jobs.artifacts import key_of
from jobs.record import DatasetRef, Job, JobError, Status
from jobs.sandbox.choice import sandbox_of
from prune_engine.spec import PruneSpec
from tests.jobs.sandbox.attacker import Way, skip_unless_here
from tests.processes import running_for
from tests.worker.children import write_fetcher
from tests.worker.conftest import MODEL, Bench

Eventually = Callable[..., None]


def in_background(bench: Bench, child: str) -> tuple[Job, threading.Thread]:
    job = bench.submit()
    thread = threading.Thread(target=bench.supervisor(child).run, args=(job.id,))
    thread.start()
    return job, thread


def alive(bench: Bench) -> list[int]:
    return running_for(bench.settings.scratch)


def test_a_good_child_ends_in_success_with_its_files_stored(bench: Bench) -> None:
    job = bench.run("good")
    assert job.status is Status.SUCCEEDED
    assert job.result is not None
    assert job.result.density == 0.1
    assert job.result.metrics == {"after": {"accuracy": 97.5}}
    names = [a.name for a in job.result.artifacts]
    assert names == ["model.onnx", "report.json", "figures/curve.svg"]
    got = bench.folder / "got"
    bench.artifacts.fetch_file(key_of(job.id, job.result.artifacts[0]), got)
    assert got.read_bytes() == MODEL + b" pruned"
    assert job.result.artifacts[0].bytes == len(MODEL) + 7
    assert bench.scratch_left() == []


def test_the_stream_tells_the_whole_story_in_order(bench: Bench) -> None:
    job = bench.run("good")
    story = [
        s.event.get("status") or s.event.get("stage") or s.event["type"] for s in bench.store.events(job.id)
    ]
    assert story == [
        *("queued", "running", "preparing", "started", "pruning", "pruning", "done", "succeeded")
    ]


def test_the_child_finds_its_folder_as_agreed(bench: Bench) -> None:
    job = bench.run("tells_its_folder")
    [warning] = bench.events(job, "warning")
    files = json.loads(str(warning["message"]))
    assert set(files) == {"spec.json", "job.json", "model.onnx", "data.npz"}
    assert json.loads(files["spec.json"])["density"] == 0.1
    assert json.loads(files["job.json"]) == {
        "job_id": job.id,
        "model_filename": "net.onnx",
        "dataset_name": "digits",
        "dataset_source": "named",
        "checkpoint_seconds": 60.0,
        "sandbox": sandbox_of(bench.settings).description,
    }


def test_the_child_learns_no_address_and_no_secret(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("REDIS_URL", "redis://hidden")
    job = bench.run("tells_its_environment", child_threads=1)
    [warning] = bench.events(job, "warning")
    environment = json.loads(str(warning["message"]))
    assert "hidden" not in str(warning)
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["HOME"].startswith(str(bench.settings.scratch))


def test_a_second_message_for_the_same_job_does_nothing(bench: Bench) -> None:
    job = bench.run("good")
    bench.supervisor("segfaults").run(job.id)
    assert bench.store.get(job.id) == job


def test_a_message_for_a_job_that_is_gone_does_nothing(bench: Bench) -> None:
    bench.supervisor("good").run("job_gone")


def test_an_error_event_fails_the_job_with_its_code(bench: Bench) -> None:
    job = bench.run("refuses")
    assert job.status is Status.FAILED
    assert job.error is not None
    assert (job.error.code, job.error.message, job.error.param) == ("operator_unsupported", "Foo", "model")


@pytest.mark.parametrize(
    ("child", "reason"),
    [
        ("segfaults", "SIGSEGV: native code crashed; its last words: about to fall"),
        ("killed", "SIGKILL: it was killed, probably because it ran out of memory"),
        ("exits", "exit status 3 and without a result; its last words: no more"),
        ("silent", "exit status 0 and without a result"),
    ],
)
def test_a_crash_says_how_it_happened_and_the_next_job_is_served(
    bench: Bench, child: str, reason: str
) -> None:
    job = bench.run(child, max_attempts=1)
    assert job.error is not None
    assert job.error.code == "child_crashed"
    assert reason in job.error.message
    assert bench.scratch_left() == []
    assert bench.run("good").status is Status.SUCCEEDED


@pytest.mark.parametrize("child", ["hangs", "ignores_sigterm"])
def test_a_cancel_ends_the_child_within_five_seconds(
    bench: Bench, eventually: Eventually, child: str
) -> None:
    job, thread = in_background(bench, child)
    eventually(lambda: bench.events(job, "progress"))
    assert alive(bench)
    bench.store.request_cancel(job.id)
    began = time.monotonic()
    thread.join(10)
    assert time.monotonic() - began < 5
    assert bench.store.get(job.id).status is Status.CANCELLED
    assert not alive(bench)
    assert bench.scratch_left() == []


@pytest.mark.parametrize("child", ["has_offspring", "leaves_offspring"])
def test_what_the_child_started_ends_with_it(bench: Bench, eventually: Eventually, child: str) -> None:
    job, thread = in_background(bench, child)
    eventually(lambda: bench.events(job, "warning"))
    if child == "has_offspring":
        assert len(alive(bench)) >= 2
        bench.store.request_cancel(job.id)
    thread.join(10)
    assert not thread.is_alive()
    eventually(lambda: not alive(bench))


@pytest.mark.parametrize("child", ["babbles", "prints_a_huge_line", "floods_stderr"])
def test_rubbish_does_not_disturb(bench: Bench, child: str) -> None:
    assert bench.run(child).status is Status.SUCCEEDED


def test_a_flood_of_progress_is_thinned_and_the_last_of_a_stage_stays(bench: Bench) -> None:
    began = time.monotonic()
    job = bench.run("floods", progress_interval_seconds=0.5)
    seconds = time.monotonic() - began
    assert job.status is Status.SUCCEEDED
    progress = bench.events(job, "progress")
    assert len(progress) <= 2 * seconds + 4
    assert progress[-1]["stage"] == "exporting"
    assert progress[-2]["progress"]["step"] == 99  # type: ignore[index]


def test_progress_comes_at_most_twice_a_second(bench: Bench) -> None:
    job = bench.run("slow")
    times = [s.id for s in bench.store.events(job.id) if s.event["type"] == "progress"]
    assert 7 <= len(times) <= 12
    assert job.progress.fraction == 1.0
    assert job.stage == "pruning"


def test_a_child_that_does_not_leave_after_its_last_word_is_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.run.LEAVE_TAKING", 0.5)
    assert bench.run("does_not_leave").status is Status.SUCCEEDED


@pytest.mark.parametrize("child", ["links_outside", "names_outside"])
def test_outputs_that_lead_elsewhere_are_refused(bench: Bench, child: str) -> None:
    job = bench.run(child)
    assert job.error is not None
    assert job.error.code == "outputs_invalid"


def test_a_run_whose_job_was_ended_elsewhere_gives_up(bench: Bench, eventually: Eventually) -> None:
    job, thread = in_background(bench, "hangs")
    eventually(lambda: bench.events(job, "progress"))
    lost = bench.store.fail(job.id, JobError(code="engine_failed", message="by hand"))
    thread.join(10)
    assert not thread.is_alive()
    assert bench.store.get(job.id) == lost
    assert bench.scratch_left() == []


def test_a_data_set_that_is_on_the_machine_is_copied_without_fetching(bench: Bench) -> None:
    sets = bench.folder / "sets"
    sets.mkdir()
    (sets / "digits.npz").write_text("local data")
    fetcher = write_fetcher(bench.folder, "sys.exit('not called')")
    job = bench.run("tells_its_folder", fetch_command=fetcher, datasets_dir=sets)
    [warning] = bench.events(job, "warning")
    assert json.loads(str(warning["message"]))["data.npz"] == "local data"


def test_a_data_set_that_cannot_be_fetched_fails_the_job_with_the_fetchers_code(bench: Bench) -> None:
    says = (
        "print(json.dumps({'type': 'error', 'code': 'dataset_unknown', 'message': name, 'param': 'dataset'}))"
    )
    job = bench.run("good", fetch_command=write_fetcher(bench.folder, says + "\nsys.exit(2)"))
    assert job.error is not None
    assert (job.error.code, job.error.message, job.error.param) == ("dataset_unknown", "digits", "dataset")


def test_a_fetcher_that_crashes_is_reported(bench: Bench) -> None:
    job = bench.run("good", fetch_command=write_fetcher(bench.folder, "sys.exit('no network')"))
    assert job.error is not None
    assert job.error.code == "dataset_unavailable"
    assert "no network" in job.error.message


def test_a_name_of_the_hub_is_not_fetched_unless_the_settings_let_it(bench: Bench) -> None:
    hub = DatasetRef(source="named", name="hf:owner/name")
    job = bench.submit(dataset=hub)
    bench.supervisor("good").run(job.id)
    assert bench.store.get(job.id).error.code == "hub_datasets_off"  # type: ignore[union-attr]
    job = bench.submit(dataset=hub)
    bench.supervisor("good", hub_datasets=True).run(job.id)
    assert bench.store.get(job.id).status is Status.SUCCEEDED


def test_a_cancel_ends_a_fetch_too(bench: Bench, eventually: Eventually) -> None:
    fetcher = write_fetcher(bench.folder, "time.sleep(600)")
    bench.settings = bench.settings.model_copy(update={"fetch_command": fetcher})
    job, thread = in_background(bench, "good")
    eventually(lambda: bench.events(job, "stage"))
    bench.store.request_cancel(job.id)
    thread.join(5)
    assert bench.store.get(job.id).status is Status.CANCELLED


def test_an_upload_that_is_not_there_fails_the_job(bench: Bench) -> None:
    from tests.stores import a_job

    job = a_job()
    bench.store.create(job)
    bench.supervisor("good").run(job.id)
    error = bench.store.get(job.id).error
    assert error is not None
    assert error.code == "artifact_not_found"


def test_a_run_over_a_limit_of_all_its_processes_fails_and_is_not_tried_again(bench: Bench) -> None:
    job = bench.run("fills_the_disk", job_disk_bytes=5_000_000)
    assert job.error is not None
    assert job.error.code == "run_limit_exceeded"
    assert "5,000,000 bytes that it may write" in job.error.message
    assert job.attempt == 1


@pytest.mark.parametrize("sandbox", ["bubblewrap", "landlock"])
def test_a_run_that_needs_what_the_sandbox_cannot_give_is_told_so(bench: Bench, sandbox: str) -> None:
    skip_unless_here(Way(sandbox))
    job = bench.submit(PruneSpec.model_validate({"density": 0.1, "gpus": 2, "device": "cuda"}))
    bench.supervisor("good", sandbox=sandbox).run(job.id)
    ended = bench.store.get(job.id)
    if sandbox == "bubblewrap":
        assert ended.status is Status.SUCCEEDED
    else:
        assert ended.error is not None
        assert ended.error.code == "sandbox_unavailable"
