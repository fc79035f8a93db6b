"""Whatever happens: the end of every job is told, and what was told once is not told by two at a time."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections import Counter
from pathlib import Path

import pytest
import standardwebhooks

from jobs.artifacts import input_key
from jobs.record import Job, Status, Webhook
from jobs.webhooks.message import Message, State
from jobs.webhooks.signing import new_secret
from tests.chaos.cluster import Cluster, cluster
from tests.receivers import LOOPBACK, Receiver
from tests.stores import a_job

pytestmark = pytest.mark.chaos
JOBS = 20
SECRET = new_secret()


def submit(made: Cluster, url: str) -> Job:
    job = a_job(webhook=Webhook(url=url))
    model = made.folder / "model"
    model.write_bytes(b"a model")
    made.artifacts.put_file(input_key(job.id, "model"), model)
    made.store.create(job, secret=SECRET)
    made.doorbell.ring(job.id)
    return job


def message(made: Cluster, job: Job) -> Message | None:
    fields = made.store._redis.hgetall(made.store._layout.webhook(job.id))
    found = [Message.model_validate_json(raw) for name, raw in fields.items() if name.startswith("msg_")]
    return found[0] if found else None


def told(made: Cluster, jobs: list[Job]) -> int:
    messages = [message(made, job) for job in jobs]
    return sum(found is not None and found.state is State.DELIVERED for found in messages)


def test_every_end_is_told_though_workers_and_the_store_are_killed(
    tmp_path: Path, receiver: Receiver, ca_file: Path
) -> None:
    """The receiver is away at first; workers are killed in the middle of deliveries, and the store too."""
    accepted: Counter[str] = Counter()
    busy: Counter[str] = Counter()
    at_once: list[str] = []
    lock = threading.Lock()
    away = threading.Event()

    def behave(connection: socket.socket, body: bytes) -> None:
        job_id = json.loads(body)["data"]["id"]
        with lock:
            busy[job_id] += 1
            if busy[job_id] > 1:
                at_once.append(job_id)
        away.wait(0.05)
        status = 204 if away.is_set() else 503
        try:
            connection.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
        finally:
            with lock:
                busy[job_id] -= 1
                accepted[job_id] += status == 204

    receiver.behave = behave
    settings = {
        "webhooks": True,
        "sandbox": "off",  # the child writes into the journal of all
        "outgoing_networks": (LOOPBACK,),
        "outgoing_ca_file": ca_file,
        "outgoing_seconds": 2.0,
        "webhook_retry_seconds": (0.0, *[1.0] * 49),
    }
    with cluster(tmp_path / "cluster", **settings) as made:
        jobs = [submit(made, f"https://127.0.0.1:{receiver.port}/") for _ in range(JOBS)]
        for _ in range(3):
            made.eventually(lambda: receiver.requests, 90)
            made.workers[-1].kill()
            made.worker()
            receiver.requests.clear()
        made.kill_store()
        made.restart_store()
        away.set()
        made.eventually(lambda: accepted, 90)
        made.workers[-1].send_signal(signal.SIGTERM)
        made.worker()
        made.eventually(lambda: told(made, jobs) == JOBS, 180)
        made.stop_workers()
        for job in jobs:
            now = made.store.get(job.id)
            assert now.status is Status.SUCCEEDED, f"{now.error}\n{made.logs()}"
        assert set(accepted) == {job.id for job in jobs}
        assert at_once == []
        assert sum(accepted.values()) <= JOBS + 4  # a kill between the answer and its record tells once more
        for request in receiver.requests:
            standardwebhooks.Webhook(SECRET).verify(request.body, request.headers)
        assert made.store._redis.zcard(made.store._layout.webhooks) == 0
