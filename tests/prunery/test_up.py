"""`prunery up` as its user runs it: real processes, real signals."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from jobs.artifacts import ArtifactStore, input_key
from jobs.keys import KeyStore, Scope
from jobs.record import Job, Status
from jobs.settings import Settings
from jobs.store import JobStore
from prunery.data_folder import with_store
from prunery.up import share_processors
from prunery.valkey import start_server
from tests.service.certificates import certificate
from tests.stores import a_job
from tests.worker.children import write_child, write_fetcher

Up = Callable[..., "Running"]


class Running:
    """A started `prunery up`."""

    def __init__(self, data_dir: Path, environment: dict[str, str], *options: str) -> None:
        self.data_dir = data_dir
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PRUNERY") and k != "REDIS_URL"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "prunery", "up", "--data-dir", str(data_dir), *options],
            env=clean | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self._lines.extend(self.process.stdout)

    @property
    def said(self) -> str:
        return "".join(self._lines)

    def ready(self, seconds: float = 30.0) -> str:
        """The address."""
        until = time.monotonic() + seconds
        while not (found := re.search(r"ready at (https?://\S+)", self.said)):
            assert self.process.poll() is None, self.said + self.logs()
            assert time.monotonic() < until, self.said + self.logs()
            time.sleep(0.02)
        return found[1]

    def ended(self, seconds: float = 20.0) -> int:
        status = self.process.wait(seconds)
        self._reader.join(5)
        return status

    def tree(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def tree_with_child(self) -> list[psutil.Process]:
        """The tree once a worker has started a child."""
        until = time.monotonic() + 20
        while not any(str(self.data_dir / "scratch") in words for p in self.tree() for words in _words(p)):
            assert time.monotonic() < until, self.logs()
            time.sleep(0.02)
        return self.tree()

    def part(self, words: str) -> psutil.Process:
        [found] = [p for p in self.tree() if words in " ".join(_words(p))]
        return found

    def settings(self) -> Settings:
        url = f"unix://{self.data_dir}/valkey/valkey.sock"
        return Settings(_env_file=None, redis_url=url, data_dir=self.data_dir)

    def logs(self) -> str:
        return "\n".join(p.read_text()[-2000:] for p in self.data_dir.glob("logs/*.log"))


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder with a short path, so that the private server gets a Unix socket."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="up-") as folder:
        yield Path(folder) / "data"


@pytest.fixture
def up(data_dir: Path) -> Iterator[Up]:
    started: list[Running] = []

    def start(*options: str, **environment: str) -> Running:
        running = Running(data_dir, environment, *(options or ("--port", "0")))
        started.append(running)
        return running

    yield start
    for running in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [*running.tree(), psutil.Process(running.process.pid)]:
                process.kill()
        running.process.wait()


def submit(running: Running) -> Job:
    settings = running.settings()
    job = a_job()
    model = running.data_dir / "model"
    model.write_bytes(b"model")
    ArtifactStore(settings).put_file(input_key(job.id, "model"), model)
    store = JobStore(settings)
    store.create(job)
    store.close()
    return job


def wait_for(running: Running, job: Job, *statuses: Status, seconds: float = 20.0) -> Job:
    store = JobStore(running.settings())
    until = time.monotonic() + seconds
    while (now := store.get(job.id)).status not in statuses:
        assert time.monotonic() < until, f"{now.status}\n{running.logs()}"
        time.sleep(0.05)
    store.close()
    return now


def with_child(folder: Path, name: str) -> dict[str, str]:
    (folder / "digits.npz").write_text("data")
    fetcher = write_fetcher(folder, f"print(json.dumps({{'path': {str(folder / 'digits.npz')!r}}}))")
    settings = Settings(
        _env_file=None,
        child_command=write_child(folder, name),
        fetch_command=fetcher,
        heartbeat_seconds=0.3,
        stop_grace_seconds=1.0,
    )
    return settings.environment()


def all_gone(processes: list[psutil.Process], seconds: float) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_comes_up_answers_and_ends_without_a_trace(
    up: Up, tmp_path: Path, data_dir: Path, number: int
) -> None:
    running = up("--port", "0", "--workers", "2", **with_child(tmp_path, "ignores_sigterm"))
    address = running.ready()
    with urllib.request.urlopen(f"{address}/readyz") as answer:
        assert answer.status == 200
    submit(running)
    tree = running.tree_with_child()
    assert len(tree) >= 5  # the store, the API, two workers, a child; and soon its guard and what shuts it in
    running.process.send_signal(number)
    assert running.ended() == 0
    assert all_gone(tree, 1)
    assert "Prunery stops" in running.said
    assert list((data_dir / "scratch").iterdir()) == []
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{address}/healthz")


def test_killing_it_leaves_no_process(up: Up, tmp_path: Path) -> None:
    running = up(**with_child(tmp_path, "hangs"))
    running.ready()
    submit(running)
    tree = running.tree_with_child()
    running.process.kill()
    assert all_gone(tree, 5)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_after_a_restart_running_jobs_go_on_and_queued_ones_run(up: Up, tmp_path: Path, how: int) -> None:
    environment = with_child(tmp_path, "trains_long")
    first = up(**environment)
    first.ready()
    running, queued = submit(first), submit(first)
    wait_for(first, running, Status.RUNNING)
    tree = first.tree_with_child()
    first.process.send_signal(how)
    assert all_gone(tree, 15)
    second = up(**environment)
    second.ready()
    done = wait_for(second, running, Status.SUCCEEDED, seconds=40)
    assert (done.attempt, done.failures) == (2, 1 if how == signal.SIGKILL else 0)
    assert wait_for(second, queued, Status.SUCCEEDED, seconds=40).attempt == 1


@pytest.mark.parametrize(
    ("words", "name"), [("-m worker", "worker 1"), ("prunery.api", "the API"), ("valkey", "the job store")]
)
def test_the_death_of_a_part_ends_the_whole_and_is_said(up: Up, words: str, name: str) -> None:
    running = up()
    running.ready()
    tree = running.tree()
    running.part(words).kill()
    assert running.ended() == 1
    assert f"error: {name} ended (SIGKILL)" in running.said
    assert all_gone(tree, 1)


def test_a_second_one_on_the_same_folder_is_refused(up: Up, data_dir: Path) -> None:
    first = up("--port", "0", "--workers", "0")
    first.ready()
    second = up()
    assert second.ended() == 2
    assert f"(process {first.process.pid}) uses the data folder {data_dir}" in second.said
    assert first.process.poll() is None


def test_a_taken_port_is_said_before_anything_starts(up: Up, data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        running = up("--port", str(port))
        assert running.ended() == 2
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in running.said
    assert "--port" in running.said
    assert not (data_dir / "valkey").exists()


def test_settings_that_make_no_sense_are_refused_by_name(up: Up) -> None:
    running = up("--workers", "-1")
    assert running.ended() == 2
    assert "error: PRUNERY_WORKERS:" in running.said
    assert "Traceback" not in running.said


def test_an_absent_store_is_said_in_one_line(up: Up) -> None:
    running = up("--port", "0", REDIS_URL="redis://127.0.0.1:1/0")
    assert running.ended(90) == 1
    assert "[store_unavailable]" in running.said
    assert "Traceback" not in running.said


def test_with_nohup_it_outlives_its_terminal(data_dir: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        running = Running(data_dir, {}, "--port", "0", "--workers", "0")
    finally:
        signal.signal(signal.SIGHUP, before)
    try:
        running.ready()
        running.process.send_signal(signal.SIGHUP)
        time.sleep(1)
        assert running.process.poll() is None
    finally:
        running.process.terminate()
    assert running.ended() == 0


def test_with_redis_url_no_server_is_started(up: Up, tmp_path: Path) -> None:
    server = start_server(tmp_path / "own")
    server.wait(10)
    running = up("--port", "0", REDIS_URL=server.url)
    running.ready()
    assert not any("valkey" in " ".join(p.cmdline()) for p in running.tree())
    assert not (running.data_dir / "valkey").exists()
    running.process.terminate()
    assert running.ended() == 0
    assert server.answers()
    server.stop()


def test_a_long_path_of_the_data_folder_is_no_obstacle(tmp_path: Path) -> None:
    server = start_server(tmp_path / ("long" * 30))
    server.wait(10)
    assert server.url.startswith("redis://127.0.0.1:")
    server.stop()


def test_it_is_ready_within_three_seconds(up: Up) -> None:
    """On an idle machine; a busy one (the test runs beside others) gets the measured load's share more."""
    began = time.monotonic()
    up().ready()
    share = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert time.monotonic() - began < 3.0 * share


def test_several_workers_share_the_processors(tmp_path: Path) -> None:
    def threads(**fields: int) -> int | None:
        return share_processors(Settings(_env_file=None, data_dir=tmp_path, **fields)).child_threads

    cores = os.cpu_count() or 1
    assert threads(workers=2, child_threads=3) == 3
    assert threads(workers=cores) == 1 or cores == 1
    assert threads(workers=4 * cores) == 1


def test_a_network_needs_a_key_first_and_https_is_served(up: Up, data_dir: Path, tmp_path: Path) -> None:
    options = ("--host", "0.0.0.0", "--port", "0", "--workers", "0")
    refused = up(*options)
    assert refused.ended() == 2
    assert "prunery keys create" in refused.said
    with with_store(Settings(_env_file=None, data_dir=data_dir)) as reachable:
        keys = KeyStore(reachable)
        token = keys.create("me", [Scope.JOBS_READ])[1]
        keys.close()
    cert, key, authority = certificate(tmp_path)
    running = up(*options, PRUNERY_TLS_CERT=str(cert), PRUNERY_TLS_KEY=str(key))
    port = running.ready().rpartition(":")[2]
    assert running.ready().startswith("https://0.0.0.0:")
    context = ssl.create_default_context(cafile=str(authority))
    with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=context, timeout=30) as client:
        assert client.get("/jobs").status_code == 401
        assert client.get("/jobs", headers={"X-API-Key": str(token)}).status_code == 200
    tls = {"PRUNERY_PORT": port, "PRUNERY_TLS_CERT": str(cert), "PRUNERY_TLS_KEY": str(key)}
    check = [sys.executable, "-m", "service.health"]
    assert subprocess.run(check, env=os.environ | tls, check=False).returncode == 0
    plain = {"PRUNERY_PORT": port}
    assert subprocess.run(check, env=os.environ | plain, check=False).returncode == 1
