"""The compose file's commands and health checks, run on this machine in place of containers.

Only what a container changes is changed: names of hosts, ports and folders.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from prunery.valkey import find_binary
from tests.deploy.files import ROOT, filled_in, healthcheck_of_image, image_environment, services

SERVICES = services()
# As the compose file's head and docs/keys.md say it.
FIRST_KEY = ["keys", "create", "--name", "me", "--scope", "jobs:write"]
PATIENCE = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Machine:
    """This machine in the place of the containers': where their folders and ports are here."""

    folder: Path
    store_port: int
    api_port: int

    def here(self, text: str) -> str:
        """A path or URL of the compose file as it is here."""
        text = filled_in(text).replace("redis://valkey:6379", f"redis://127.0.0.1:{self.store_port}")
        return f"{self.folder}{text}" if text.startswith("/") else text

    def environment(self, name: str) -> dict[str, str]:
        """The service's environment, and nothing of this one's but the way to programs."""
        given = image_environment("cpu") | SERVICES[name]["environment"]
        given = {key: self.here(str(value)) for key, value in given.items() if key != "PATH"}
        ports = {"PRUNERY_PORT": str(self.api_port)}
        return {**given, **ports, "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def command(self, words: list[str]) -> list[str]:
        """A command as it is here: this Python, the API's port here."""
        program = sys.executable if words[0] == "python" else words[0]
        return [program, *(word.replace(":8000/", f":{self.api_port}/") for word in words[1:])]

    def check(self, name: str, words: list[str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a service's health check, or another one in its place."""
        test = words or SERVICES[name]["healthcheck"]["test"][1:]
        return subprocess.run(
            self.command(test),
            env=self.environment(name),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def until_healthy(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """Wait for a service's health check to pass."""
        until = time.monotonic() + PATIENCE
        while (check := self.check(name)).returncode != 0:
            log = (self.folder / f"{name}.log").read_text()
            assert process.poll() is None, f"{name} ended:\n{log}"
            assert time.monotonic() < until, f"{name} does not become healthy: {check.stderr}\n{log}"
            time.sleep(0.2)

    @contextmanager
    def running(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """The service's process; at the end it must go when asked, within its grace."""
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                self.command(SERVICES[name]["command"]),
                env=self.environment(name),
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            process.wait(float(SERVICES[name]["stop_grace_period"].removesuffix("s")))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine whose Valkey is started with the compose file's own options."""
    there = Machine(tmp_path, free_port(), free_port())
    for folder in ("data", "scratch", "datasets", "valkey"):
        (tmp_path / folder).mkdir()
    words = [str(word) for word in SERVICES["valkey"]["command"]]
    assert words[0] == "valkey-server"
    assert words[words.index("--dir") + 1] in [entry.split(":")[1] for entry in SERVICES["valkey"]["volumes"]]
    options = [str(tmp_path / "valkey") if word == "/data" else word for word in words[1:]]
    here = ["--port", str(there.store_port), "--bind", "127.0.0.1"]
    server = subprocess.Popen([find_binary(), *options, *here], stdout=subprocess.DEVNULL)
    client = redis.Redis(port=there.store_port)
    try:
        until = time.monotonic() + 10
        while True:
            try:
                client.ping()
                break
            except redis.exceptions.ConnectionError:
                assert server.poll() is None, "valkey-server refused the compose file's options"
                assert time.monotonic() < until
                time.sleep(0.05)
        yield there
    finally:
        client.close()
        server.terminate()
        server.wait(10)


def test_valkey_keeps_everything_on_disk_and_evicts_nothing(machine: Machine) -> None:
    client = redis.Redis(port=machine.store_port, decode_responses=True)
    assert client.config_get("appendonly") == {"appendonly": "yes"}
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert client.config_get("dir") == {"dir": str(machine.folder / "valkey")}
    client.set("kept", "yes")
    assert client.execute_command("WAITAOF", 1, 0, 5000)[0] == 1
    assert (machine.folder / "valkey" / "appendonlydir").is_dir()
    client.close()


def test_the_api_asks_for_a_key_becomes_healthy_and_ends_when_asked(machine: Machine) -> None:
    assert machine.check("api").returncode != 0
    with machine.running("api") as api:
        assert api.wait(PATIENCE) == 2
    assert "prunery keys create" in (machine.folder / "api.log").read_text()
    made = machine.check("api", ["python", "-m", "prunery", *FIRST_KEY])
    assert made.stdout.startswith("prn_"), made.stderr
    with machine.running("api") as api:
        machine.until_healthy("api", api)
        assert machine.check("api", healthcheck_of_image()).returncode == 0
    assert machine.check("api").returncode != 0
    assert machine.check("api", healthcheck_of_image()).returncode != 0


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_a_worker_becomes_healthy_and_ends_when_asked(machine: Machine, name: str) -> None:
    alone = machine.check(name)
    assert alone.returncode != 0
    assert "no worker of" in alone.stderr
    with machine.running(name) as worker:
        machine.until_healthy(name, worker)
    assert machine.check(name).returncode != 0
    assert list((machine.folder / "scratch").iterdir()) == []


def test_a_worker_s_health_check_says_when_the_store_is_away(machine: Machine) -> None:
    redis.Redis(port=machine.store_port).shutdown(nosave=True)
    check = machine.check("worker")
    assert check.returncode == 1
    assert "[store_unavailable]" in check.stderr
