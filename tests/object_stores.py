"""Fixtures with a real object store: a SeaweedFS for the session, and a path of its bucket for each test."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from jobs.process import die_with_parent
from jobs.settings import Settings
from tests.switch import Switch

BUCKET = "prunery"
_IDENTITY = {
    "name": "tests",
    "credentials": [{"accessKey": "test-key", "secretKey": "test-secret"}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
}


def program(name: str) -> Path:
    """A program of the virtual environment."""
    found = Path(sys.executable).parent / name
    if not found.exists():
        reason = f"{name} is not installed; `make setup-dev` does it where there is a build of it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def free_ports(number: int, host: str = "127.0.0.1") -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as opened:
        probes = [opened.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind((host, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@dataclass
class SeaweedFS:
    """A running server. `host` is where it listens; `folder` has its data, its settings and its log."""

    folder: Path
    host: str = "127.0.0.1"
    s3_port: int = field(init=False)

    def start(self) -> None:
        """Start it, wait until it answers, and make the bucket."""
        config = self.folder / "s3.json"
        config.write_text(json.dumps({"identities": [_IDENTITY]}))
        names = ("master", "volume", "filer", "s3")
        self._ports = free_ports(2 * len(names), self.host)
        chosen = dict(zip((*names, *(f"{name}.grpc" for name in names)), self._ports, strict=True))
        self.s3_port, self._filer_port, self._master_port = (
            chosen[name] for name in ("s3", "filer", "master")
        )
        options = [f"-{name.replace('.grpc', '.port.grpc')}={port}" for name, port in chosen.items()]
        options = [o if "grpc" in o else o.replace("=", ".port=", 1) for o in options]
        data = self.folder / "data"
        data.mkdir()
        command: list[str | Path] = [
            *(program("weed"), "server", f"-dir={data}", f"-ip={self.host}", f"-ip.bind={self.host}"),
            *("-filer", "-s3", f"-s3.config={config}", *options),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
            *("-master.volumeSizeLimitMB=64", "-volume.max=100", "-volume.minFreeSpace=1"),
        ]
        with (self.folder / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, preexec_fn=die_with_parent()
            )
        until = time.monotonic() + 60
        while not self._is_ready():
            assert self._process.poll() is None, (self.folder / "weed.log").read_text()[-3000:]
            assert time.monotonic() < until, "SeaweedFS did not start"
            time.sleep(0.1)

    def uploads(self) -> list[str]:
        """The multipart uploads that were begun and neither completed nor aborted."""
        status, body = self._filer("GET", f"/buckets/{BUCKET}/.uploads/?limit=100")
        entries = json.loads(body)["Entries"] if status == 200 else None
        return [entry["FullPath"] for entry in entries or []]

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for port in self._ports:  # what it leaves when it is killed
            for left in Path(tempfile.gettempdir()).glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)

    def _is_ready(self) -> bool:
        try:
            if self._filer("POST", f"/buckets/{BUCKET}/")[0] not in (201, 409):  # made, or there
                return False
            if self._ask(self.s3_port, "GET", "/")[0] != 403:
                return False
            # The bucket's first volume, for which the first upload would wait five seconds.
            grow = f"/vol/grow?collection={BUCKET}&count=1"
            return self._ask(self._master_port, "GET", grow)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def _filer(self, method: str, path: str) -> tuple[int, bytes]:
        return self._ask(self._filer_port, method, path)

    def _ask(self, port: int, method: str, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, port, timeout=5)
        connection.request(method, path, headers={"Accept": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()


def s3_environment(endpoint: str) -> dict[str, str]:
    """What a process has in its environment to use the server at `endpoint`."""
    [credentials] = _IDENTITY["credentials"]
    return {
        "AWS_ACCESS_KEY_ID": credentials["accessKey"],  # type: ignore[index]
        "AWS_SECRET_ACCESS_KEY": credentials["secretKey"],  # type: ignore[index]
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
    }


@dataclass(frozen=True)
class S3:
    """One test's path in the bucket, behind a switch: `with s3.switch.away(): ...` answers 503."""

    url: str
    endpoint: str
    switch: Switch
    server: SeaweedFS

    @property
    def environment(self) -> dict[str, str]:
        """For the processes that a test starts."""
        return {**s3_environment(self.endpoint), "ARTIFACTS_URL": self.url}

    def keys(self) -> list[str]:
        """Every file below this test's path, past the switch."""
        import obstore
        from obstore.store import from_url

        config: Any = {"endpoint": f"http://{self.server.host}:{self.server.s3_port}"}
        store = from_url(self.url, config=config, client_options={"allow_http": True})
        return sorted(item["path"] for batch in obstore.list(store) for item in batch)


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A real server with the S3 API, for the whole session."""
    server = SeaweedFS(tmp_path_factory.mktemp("seaweedfs"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """A path of this test's own; this process's environment has what is needed to use it."""
    switch = Switch((seaweedfs.host, seaweedfs.s3_port))
    store = S3(
        url=f"s3://{BUCKET}/test {secrets.token_hex(6)}",
        endpoint=f"http://127.0.0.1:{switch.port}",
        switch=switch,
        server=seaweedfs,
    )
    for name, value in s3_environment(store.endpoint).items():
        monkeypatch.setenv(name, value)
    yield store
    switch.close()


@pytest.fixture
def s3_settings(settings: Settings, s3: S3) -> Settings:
    """This test's settings, with the artifacts in its path of the bucket."""
    return settings.model_copy(update={"artifacts_url": s3.url})
