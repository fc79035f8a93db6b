"""The children that look through models: limited, ended with their request, and never trusted."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.scratch import Scratch
from jobs.settings import Settings
from jobs.store import JobStore
from service import inspector
from service.openapi.inspections import EXAMPLE
from tests.jobs.sandbox.attacker import Way, skip_unless_here
from tests.processes import running_for
from tests.service.conftest import Api, running
from tests.service.inspecting import (
    SOUND,
    answering,
    left,
    look,
    nothing_is_left,
    standing_in,
)
from tests.service.samples import assert_problem

SLEEP = "(folder / 'running').touch()\ntime.sleep(60)"


def wait_for_child(api: Api) -> None:
    until = time.monotonic() + 30
    while not list(api.settings.scratch.glob(str(Path("*", "*", "work", "running")))):
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

    def test_the_first_two_at_once_share_one_folder_of_this_process(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[str] = []

        class Slow(Scratch):
            def __init__(self, root: Path, owner: str) -> None:
                made.append(owner)
                time.sleep(0.3)
                super().__init__(root, owner)

        async def both() -> None:
            ours = inspector.Inspector(settings)

            async def one() -> Path:
                async with ours.folder() as folder:
                    assert folder.is_dir()
                    return folder.parent

            first, second = await asyncio.gather(one(), one())
            assert first == second
            await ours.close()

        monkeypatch.setattr(inspector, "Scratch", Slow)
        asyncio.run(both())
        assert len(made) == 1
        assert list(settings.scratch.iterdir()) == []

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
