"""APIs and workers on several hosts, which share a job store and a bucket and no folder."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from prunery.valkey import find_binary
from tests.hosts.network import Network, possible
from tests.object_stores import BUCKET, SeaweedFS, s3_environment
from tests.service.samples import small_onnx
from tests.worker.children import write_child, write_fetcher

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not possible(), reason="this machine allows no network namespaces"),
]


@dataclass
class Cluster:
    """A store with a bucket on one host; APIs and workers on others; a person on one more."""

    network: Network
    environment: dict[str, str]
    folder: Path
    key: str = ""

    def api(self, host: str) -> None:
        self.network.start(host, [sys.executable, "-m", "service.server"], self._own(host))
        self.eventually(lambda: self.get(host, "/healthz").status_code == 200)

    def worker(self, host: str) -> subprocess.Popen[bytes]:
        return self.network.start(host, [sys.executable, "-m", "worker"], self._own(host))

    def get(self, host: str, path: str, **options: Any) -> httpx.Response:
        """As the person."""
        with self.network.inside("person"):
            return httpx.get(
                self._url(host, path), headers=self._headers(), timeout=30, trust_env=False, **options
            )

    def submit(self, host: str) -> str:
        with self.network.inside("person"):
            answer = httpx.post(
                self._url(host, "/jobs"),
                headers={**self._headers(), "X-Request-ID": "req-from-the-person"},
                files={"model": ("net.onnx", small_onnx())},
                data={"density": "0.5", "dataset": "digits"},
                timeout=60,
                trust_env=False,
            )
        assert answer.status_code == 202, answer.text
        job_id: str = answer.json()["id"]
        return job_id

    def make_key(self) -> None:
        with self.network.inside("store"):
            made = subprocess.run(
                [sys.executable, "-m", "prunery", "keys", "create", "--name=hosts", "--scope=jobs:write"],
                env={**os.environ, **self.environment},
                cwd=self.folder,
                check=True,
                capture_output=True,
                text=True,
            )
        self.key = next(word for word in made.stdout.split() if word.startswith("prn_"))

    def eventually(self, true: Callable[[], object], seconds: float = 90.0) -> None:
        until = time.monotonic() + seconds
        while True:
            try:
                if true():
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < until, "it did not happen in time"
            time.sleep(0.2)

    def _own(self, host: str) -> dict[str, str]:
        data = {"PRUNERY_DATA_DIR": str(self.folder / host / "data")}
        return {**self.environment, **data, "PRUNERY_HOST": self.network.address(host)}

    def _url(self, host: str, path: str) -> str:
        return f"http://{self.network.address(host)}:8000{path}"

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Network(tmp_path, "store", "api-a", "worker-a", "worker-b", "api-b", "person") as network:
        store = network.address("store")
        command = [find_binary(), "--bind", store, "--port", "6379", "--protected-mode", "no"]
        network.start("store", [*command, "--appendonly", "yes", "--save", ""], {})
        seaweedfs = SeaweedFS(tmp_path, host=store)
        with network.inside("store"):
            seaweedfs.start()
        dataset = tmp_path / "digits.npz"
        dataset.write_text("data")
        fetcher = write_fetcher(tmp_path, f"print(json.dumps({{'path': {str(dataset)!r}}}))")
        endpoint = f"http://{store}:{seaweedfs.s3_port}"
        environment = {
            **s3_environment(endpoint),
            "REDIS_URL": f"redis://{store}:6379/0",
            "ARTIFACTS_URL": f"s3://{BUCKET}/hosts",
            "PRUNERY_PRESIGN_ENDPOINT": endpoint,
            "PRUNERY_HEARTBEAT_SECONDS": "0.5",
            "PRUNERY_LEASE_SECONDS": "3",
            "PRUNERY_LEASE_RENEW_SECONDS": "1",
            "PRUNERY_CHILD_COMMAND": json.dumps(write_child(tmp_path, "slow")),
            "PRUNERY_FETCH_COMMAND": json.dumps(fetcher),
            "PRUNERY_LOG_FORMAT": "json",
            "SANDBOX": "off",
        }
        cluster = Cluster(network, environment, tmp_path)
        cluster.make_key()
        yield cluster
        seaweedfs.stop()


def succeeded(cluster: Cluster, host: str, job_id: str) -> dict[str, Any]:
    def ended() -> bool:
        found.update(cluster.get(host, f"/jobs/{job_id}?wait=5").json())
        return found["status"] in ("succeeded", "failed", "cancelled")

    found: dict[str, Any] = {}
    cluster.eventually(ended, 120)
    logs = [cluster.network.log(name)[-3000:] for name in ("worker-a",)]
    assert found["status"] == "succeeded", f"{found['error']}\n{logs}"
    return found


def test_a_job_is_sent_to_one_host_done_on_another_and_fetched_from_a_third(cluster: Cluster) -> None:
    cluster.api("api-a")
    cluster.worker("worker-a")
    cluster.api("api-b")
    job_id = cluster.submit("api-a")
    with cluster.network.inside("person"):
        watched = subprocess.run(
            [
                *("curl", "-sN", "-H", "Accept: text/event-stream"),
                *("-H", f"Authorization: Bearer {cluster.key}"),
                f"http://{cluster.network.address('api-b')}:8000/jobs/{job_id}/events",
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout
    assert watched.count("event: progress") > 3
    assert watched.rstrip().splitlines()[-2].startswith('data: {"id"')
    assert '"status":"succeeded"' in watched
    job = succeeded(cluster, "api-b", job_id)
    got = cluster.get("api-b", f"/jobs/{job_id}/model", follow_redirects=True)
    assert [r.status_code for r in got.history] == [307]
    [model] = [a for a in job["result"]["artifacts"] if a["name"] == "model.onnx"]
    assert hashlib.sha256(got.content).hexdigest() == model["sha256"]
    lines = [json.loads(line) for line in cluster.network.log("worker-a").splitlines() if line[:1] == "{"]
    mine = [line for line in lines if line.get("job_id") == job_id]
    assert mine
    assert {line["request_id"] for line in mine} == {"req-from-the-person"}
    sent = [json.loads(line) for line in cluster.network.log("api-a").splitlines() if job_id in line]
    assert "req-from-the-person" in {line["request_id"] for line in sent}
    # Nothing of the job is on a host but what it needed there while it ran.
    left = [
        p for host in ("api-a", "api-b", "worker-a") for p in (cluster.folder / host).rglob(f"*{job_id}*")
    ]
    assert left == []


def test_a_job_whose_host_is_lost_is_done_on_another(cluster: Cluster) -> None:
    cluster.api("api-a")
    worker = cluster.worker("worker-a")
    job_id = cluster.submit("api-a")
    cluster.eventually(lambda: cluster.get("api-a", f"/jobs/{job_id}").json()["progress"]["fraction"] > 0.1)
    worker.kill()
    cluster.worker("worker-b")
    job = succeeded(cluster, "api-a", job_id)
    assert job["attempt"] == 2
    assert cluster.get("api-a", f"/jobs/{job_id}/model", follow_redirects=True).status_code == 200
