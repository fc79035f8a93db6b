"""Looking through models over HTTP: real uvicorn, real children; nothing queued, nothing left behind."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from torch import nn

from jobs.settings import Settings
from jobs.store import JobStore
from prune_engine.inspection import Inspection
from service import inspector
from service.openapi.inspections import EXAMPLE
from tests.jobs.sandbox.attacker import Way, skip_unless_here
from tests.processes import running_for
from tests.prune_engine import inspected
from tests.service.conftest import Api, running
from tests.service.samples import assert_problem, npz, small_onnx

SOUND = inspected.two_layers().SerializeToString()
STRANGE = inspected.with_a_stranger().SerializeToString()


def sent(model: bytes = SOUND, name: str = "net.onnx") -> dict[str, Any]:
    return {"model": (name, model)}


def look(api: Api, model: bytes = SOUND, name: str = "net.onnx", **fields: str) -> httpx.Response:
    return api.client.post("/models/inspect", files=sent(model, name), data=fields)


def check(api: Api, files: dict[str, Any] | None = None, **fields: str) -> httpx.Response:
    form = {"density": "0.5", "dataset": "digits"} | fields
    if files and "dataset" in files:
        del form["dataset"]
    return api.client.post("/jobs?validate_only=true", files=files or sent(), data=form)


def nothing_is_left(api: Api, store: JobStore) -> None:
    assert store.page(10) == ([], False)
    assert api.stored() == []
    assert left(api) == []


def left(api: Api) -> list[Path]:
    return [path for path in api.settings.scratch.glob("*/*") if path.name != ".lock"]


def script(tmp_path: Path, body: str) -> tuple[str, ...]:
    """A command that stands in for the engine; `folder` is where the model lies."""
    path = tmp_path / "stand_in.py"
    path.write_text(
        f"import os, signal, sys, time\nfrom pathlib import Path\nfolder = Path(sys.argv[1])\n{body}"
    )
    return (sys.executable, str(path))


def answering(found: Inspection) -> str:
    """What a stand-in does that has looked through the model already."""
    return (
        f"(folder / 'out' / 'inspection.json').write_text({found.model_dump_json()!r})\n"
        'print(\'{"type": "inspected", "prunable": true, "outputs": []}\')'
    )


@contextmanager
def standing_in(settings: Settings, tmp_path: Path, body: str, **changed: Any) -> Iterator[Api]:
    command = script(tmp_path, body)
    with running(settings.model_copy(update={"inspect_command": command, **changed})) as api:
        yield api


class TestInspect:
    def test_a_sound_model_is_described_and_nothing_stays(self, api: Api, store: JobStore) -> None:
        response = look(api, density="0.1")
        assert response.status_code == 200, response.text
        found = Inspection.model_validate_json(response.content)
        assert found.prunable
        assert (found.filename, found.bytes, found.format) == ("net.onnx", len(SOUND), "onnx")
        assert found.density is not None
        assert found.density.kept == 4
        assert [weight.name for weight in found.weights] == ["w1", "w2"]
        nothing_is_left(api, store)

    def test_a_page_by_accept_or_by_format(self, settings: Settings, tmp_path: Path) -> None:
        browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
        with standing_in(settings, tmp_path, answering(EXAMPLE)) as api:
            pages = (
                api.client.post("/models/inspect", files=sent(), headers=browser),
                api.client.post("/models/inspect?format=html", files=sent()),
                api.client.post(
                    "/jobs?validate_only=true&format=html",
                    files=sent(),
                    data={"density": "0.5", "dataset": "digits"},
                ),
            )
            for page in pages:
                assert page.headers["content-type"].startswith("text/html")
                assert "This model can be pruned." in page.text
            as_json = api.client.post("/models/inspect?format=json", files=sent(), headers=browser)
            assert as_json.json() == EXAMPLE.model_dump(mode="json")
            neither = api.client.post("/models/inspect?format=xml", files=sent())
            assert_problem(neither, 422, "parameter_invalid", "format")

    def test_unsupported_operators_are_listed_in_an_answer_of_200(self, api: Api) -> None:
        found = look(api, STRANGE).json()
        assert not found["prunable"]
        assert found["problems"][0]["code"] == "operator_unsupported"
        assert found["operators"][0]["nodes"] == ["first stranger", "second stranger"]
        assert found["weights"]

    def test_torchscript_needs_its_input_specs(self, api: Api, tmp_path: Path) -> None:
        net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
        torch.jit.trace(net.eval(), torch.zeros(1, 3, 2, 2)).save(tmp_path / "net.pt")
        model = (tmp_path / "net.pt").read_bytes()
        assert_problem(look(api, model, "net.pt"), 422, "model_conversion_failed", "model")
        specs = json.dumps({"input": [[None, 3, 2, 2], "float32"]})
        found = look(api, model, "net.pt", input_specs=specs).json()
        assert found["format"] == "torchscript"
        assert [weight["count"] for weight in found["weights"]] == [60]

    def test_data_may_come_along(self, api: Api, store: JobStore) -> None:
        good = npz(x_train=[[0.0] * 4] * 40, y_train=[0, 1, 2, 1] * 10)
        bad = npz(x_train=[[0.0] * 5] * 40, y_train=[0, 1, 2, 1] * 10)
        fitting, other = (
            api.client.post("/models/inspect", files=sent() | {"dataset": ("mine.npz", data)}).json()
            for data in (good, bad)
        )
        assert (fitting["data"]["name"], fitting["data"]["classes"]) == ("mine.npz", 3)
        assert [problem["code"] for problem in other["problems"]] == ["data_shape_mismatch"]
        nothing_is_left(api, store)

    @pytest.mark.parametrize(
        ("model", "fields", "code", "param"),
        [
            (b"\x89PNG\r\n\x1a\n" + bytes(600), {}, "model_format_unknown", "model"),
            (b"", {}, "model_empty", "model"),
            (SOUND[:-20], {}, "model_invalid", "model"),
            (SOUND, {"density": "7"}, "spec_invalid", "density"),
            (SOUND, {"densty": "0.1"}, "field_unknown", "densty"),
            (SOUND, {"dataset": "no_such_set"}, "dataset_unknown", "dataset"),
        ],
    )
    def test_what_cannot_be_looked_through_is_a_problem(
        self, api: Api, store: JobStore, model: bytes, fields: dict[str, str], code: str, param: str
    ) -> None:
        assert_problem(look(api, model, **fields), 422, code, param)
        nothing_is_left(api, store)

    def test_the_model_is_required_and_nothing_else(self, api: Api) -> None:
        without = api.client.post("/models/inspect", files={"density": (None, "0.1")})
        assert_problem(without, 422, "field_missing", "model")

    def test_a_data_set_that_is_not_here_is_said_not_to_be_checked(self, api: Api) -> None:
        found = look(api, dataset="cifar100").json()
        assert found["data"] is None
        assert any("'cifar100' is not on this machine" in warning for warning in found["warnings"])

    def test_outcomes_are_counted(self, settings: Settings, tmp_path: Path) -> None:
        with standing_in(settings, tmp_path, answering(EXAMPLE)) as api:
            look(api)
            look(api)
            look(api, b"")
            metrics = api.client.get("/metrics").text
        assert 'prunery_inspections_total{outcome="prunable"} 2.0' in metrics
        assert 'prunery_inspections_total{outcome="model_empty"} 1.0' in metrics


class TestValidateOnly:
    def test_a_job_that_would_run_is_described_and_not_queued(self, api: Api, store: JobStore) -> None:
        data = npz(x_train=[[0.0] * 4] * 40, y_train=[0, 1, 2, 1] * 10)
        response = check(api, sent() | {"dataset": ("mine.npz", data)})
        assert response.status_code == 200, response.text
        found = response.json()
        assert found["prunable"]
        assert found["density"]["kept"] == 21
        assert found["time"]["steps"] > 0
        nothing_is_left(api, store)

    def test_a_built_in_data_set_is_checked(self, api: Api, store: JobStore) -> None:
        detail = assert_problem(check(api), 422, "data_shape_mismatch", "dataset")
        assert "(8, 8)" in detail
        nothing_is_left(api, store)

    def test_the_problem_is_the_one_that_the_job_would_fail_with(self, api: Api) -> None:
        detail = assert_problem(check(api, sent(STRANGE)), 422, "operator_unsupported", "model")
        assert "Mystery" in detail

    def test_the_form_is_that_of_a_job(self, api: Api) -> None:
        assert_problem(
            api.client.post("/jobs?validate_only=true", files=sent()), 422, "field_missing", "density"
        )
        no_data = api.client.post("/jobs?validate_only=true", files=sent(), data={"density": "0.5"})
        assert_problem(no_data, 422, "field_missing", "dataset")

    def test_without_the_parameter_a_job_is_queued(self, api: Api, store: JobStore) -> None:
        form = {"density": "0.5", "dataset": "digits"}
        response = api.client.post("/jobs?validate_only=false", files=sent(small_onnx()), data=form)
        assert response.status_code == 202
        assert len(store.page(10)[0]) == 1


SLEEP = "(folder / 'running').touch()\ntime.sleep(60)"


def wait_for_child(api: Api) -> None:
    until = time.monotonic() + 30
    while not list(api.settings.scratch.glob("*/*/work/running")):
        assert time.monotonic() < until, "no child was started"
        time.sleep(0.01)
    assert running_for(api.settings.scratch)


def gone(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until, "it did not go away"
        time.sleep(0.02)


class TestChildren:
    def test_one_too_many_is_asked_to_come_again(
        self, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inspector, "PATIENCE", 0.2)
        with standing_in(settings, tmp_path, SLEEP, inspections=1, inspect_seconds=3.0) as api:
            first = threading.Thread(target=look, args=(api,))
            first.start()
            wait_for_child(api)
            busy = look(api)
            detail = assert_problem(busy, 503, "inspection_busy")
            assert "1 model is being looked through" in detail
            assert int(busy.headers["retry-after"]) > 0
            first.join()

    def test_one_that_waits_for_its_turn_gets_it(self, settings: Settings, tmp_path: Path) -> None:
        slowly = f"time.sleep(0.3)\n{answering(EXAMPLE)}"
        with standing_in(settings, tmp_path, slowly, inspections=1) as api:
            answers: list[int] = []
            threads = [
                threading.Thread(target=lambda: answers.append(look(api).status_code)) for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert answers == [200, 200]

    def test_what_takes_too_long_is_ended(self, settings: Settings, tmp_path: Path, store: JobStore) -> None:
        with standing_in(settings, tmp_path, SLEEP, inspect_seconds=1.5) as api:
            began = time.monotonic()
            detail = assert_problem(look(api), 422, "inspection_timeout")
            assert time.monotonic() - began < 5
            assert "1.5 s" in detail
            gone(lambda: not running_for(api.settings.scratch))
            nothing_is_left(api, store)

    @pytest.mark.parametrize("reset", [False, True])
    def test_a_client_that_hangs_up_takes_the_child_along(
        self, settings: Settings, tmp_path: Path, store: JobStore, reset: bool
    ) -> None:
        with standing_in(settings, tmp_path, SLEEP) as api:
            host, port = api.url.removeprefix("http://").split(":")
            body = (
                b'--f\r\nContent-Disposition: form-data; name="model"; filename="m.onnx"\r\n\r\n'
                + SOUND
                + b"\r\n--f--\r\n"
            )
            head = (
                b"POST /models/inspect HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
                b"Content-Type: multipart/form-data; boundary=f\r\n\r\n" % len(body)
            )
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.sendall(head + body)
                wait_for_child(api)
                if reset:
                    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            gone(lambda: not running_for(api.settings.scratch))
            gone(lambda: left(api) == [])
            nothing_is_left(api, store)

    def test_a_server_that_ends_waits_for_no_inspection(self, settings: Settings, tmp_path: Path) -> None:
        statuses: list[int] = []
        with standing_in(settings, tmp_path, SLEEP) as api:
            waiting = threading.Thread(target=lambda: statuses.append(look(api).status_code))
            waiting.start()
            wait_for_child(api)
            began = time.monotonic()
            api.server.handle_exit(15, None)
            gone(lambda: not running_for(api.settings.scratch))
            assert time.monotonic() - began < 5
            waiting.join()
        assert statuses == [503]
        assert list(settings.scratch.glob("*")) == []

    def test_what_the_child_had_started_is_ended_too(self, settings: Settings, tmp_path: Path) -> None:
        body = (
            "import subprocess\n"
            "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', str(folder)])\n"
            "os._exit(3)"
        )
        with standing_in(settings, tmp_path, body) as api:
            assert_problem(look(api), 422, "inspection_crashed")
            gone(lambda: not running_for(api.settings.scratch))

    def test_a_crash_is_told_with_its_signal(
        self, settings: Settings, tmp_path: Path, store: JobStore
    ) -> None:
        with standing_in(settings, tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)") as api:
            assert "SIGSEGV" in assert_problem(look(api), 422, "inspection_crashed")
            nothing_is_left(api, store)

    @pytest.mark.parametrize(
        "body",
        [
            "(folder / 'out' / 'inspection.json').write_text('{}')",
            "(folder / 'out' / 'inspection.json').symlink_to('/etc/passwd')",
            "os.rmdir(folder / 'out'); os.symlink('/etc', folder / 'out')",
            "",
        ],
    )
    def test_a_result_is_not_trusted(self, settings: Settings, tmp_path: Path, body: str) -> None:
        said = '\nprint(\'{"type": "inspected", "prunable": true, "outputs": []}\')'
        with standing_in(settings, tmp_path, body + said) as api:
            response = look(api)
            assert_problem(response, 422, "inspection_crashed")
            assert "root:" not in response.text

    def test_memory_is_limited(self, settings: Settings, tmp_path: Path) -> None:
        with standing_in(settings, tmp_path, "bytes(300_000_000)", inspect_memory_bytes=200_000_000) as api:
            assert_problem(look(api), 422, "inspection_crashed")
        with running(settings.model_copy(update={"inspect_memory_bytes": 90_000_000})) as api:
            response = look(api)
            assert response.json()["code"] in ("out_of_memory", "inspection_crashed", "internal_error")

    @pytest.mark.parametrize("sandbox", ["bubblewrap", "landlock"])
    def test_it_reaches_nothing(
        self, settings: Settings, tmp_path: Path, store: JobStore, sandbox: str
    ) -> None:
        skip_unless_here(Way(sandbox))
        secret = settings.data_dir / "artifacts" / "job_1" / "model"
        secret.parent.mkdir(parents=True)
        secret.write_text("hidden")
        with socket.create_server(("127.0.0.1", 0)) as service:
            body = f"""
import json, socket
got = []
for name, act in [
    ("file", lambda: open({str(secret)!r}).read()),
    ("parent", lambda: open("/proc/{os.getpid()}/environ").read()),
    ("connection", lambda: socket.create_connection(("127.0.0.1", {service.getsockname()[1]}), 2)),
    ("kill", lambda: os.kill({os.getpid()}, 0)),
    ("write", lambda: open({str(tmp_path / "escaped")!r}, "w")),
]:
    try: act()
    except OSError: continue
    got.append(name)
message = f"what could be reached from inside: {{got}}"
print(json.dumps(dict(type="error", code="model_invalid", message=message)))
"""
            with standing_in(settings, tmp_path, body, sandbox=sandbox) as api:
                assert (
                    assert_problem(look(api), 422, "model_invalid", "model")
                    == "what could be reached from inside: []"
                )
        assert not (tmp_path / "escaped").exists()

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            ("for n in range(9): (folder / str(n)).write_bytes(bytes(9_000))\ntime.sleep(60)", "may write"),
            (
                "import mmap\nm = mmap.mmap(-1, 300_000_000)\nm[::4096] = bytes(73243)\ntime.sleep(60)",
                "memory",
            ),
        ],
    )
    def test_what_all_its_processes_take_is_limited(
        self, settings: Settings, tmp_path: Path, body: str, reason: str
    ) -> None:
        changed = {"inspect_memory_bytes": 200_000_000, "max_model_bytes": 5_000}
        with standing_in(settings, tmp_path, body, **changed) as api:
            assert reason in assert_problem(look(api), 422, "inspection_crashed")

    def test_processor_time_is_limited(self, settings: Settings, tmp_path: Path) -> None:
        body = "\nwhile True: pass"
        changed = {"inspect_seconds": 2.0, "child_threads": 1}
        with standing_in(settings, tmp_path, f"import resource{body}", **changed) as api:
            assert_problem(look(api), 422, "inspection_timeout")

    def test_the_child_knows_no_secret(
        self, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
        monkeypatch.setenv("REDIS_URL", "redis://:hidden@host")
        body = (
            "import json\n"
            "print(json.dumps({'type': 'error', 'code': 'model_invalid', 'message': repr(dict(os.environ))}))"
        )
        with standing_in(settings, tmp_path, body) as api:
            environment = look(api).json()["detail"]
        assert "hidden" not in environment
        assert "HOME" in environment
