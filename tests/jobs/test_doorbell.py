from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.doorbell import Doorbell
from jobs.errors import StoreUnavailableError
from jobs.settings import Settings
from jobs.store import JobStore
from tests.jobs.tls import in_front_of
from tests.service.certificates import certificate


def test_a_ring_is_one_message_that_carries_the_id_only(settings: Settings, store: JobStore) -> None:
    bell = Doorbell(settings)
    bell.ring("job_1")
    bell.ring("job_2", gpu=True)
    queues = [f"{settings.redis_prefix}{name}" for name in (settings.queue, settings.gpu_queue)]
    for queue, job_id in zip(queues, ("job_1", "job_2"), strict=True):
        [message] = store._redis.lrange(queue, 0, -1)
        envelope = json.loads(message)
        assert envelope["headers"]["task"] == "prunery.run_job"
        assert envelope["headers"]["argsrepr"] == f"['{job_id}']"
    bell.close()


def test_every_key_of_the_queue_is_under_the_prefix(settings: Settings, store: JobStore) -> None:
    before = set(store._redis.keys("*"))
    Doorbell(settings).ring("job_1")
    assert all(key.startswith(settings.redis_prefix) for key in set(store._redis.keys("*")) - before)


def test_an_absent_broker_is_said_to_be_absent(settings: Settings) -> None:
    bell = Doorbell(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    with pytest.raises(StoreUnavailableError, match="REDIS_URL"):
        bell.ring("job_1")


def test_only_a_server_with_a_trusted_certificate_is_told(
    settings: Settings, store: JobStore, tmp_path: Path
) -> None:
    cert, key, authority = certificate(tmp_path)
    queue = f"{settings.redis_prefix}{settings.queue}"
    with in_front_of(settings.require_redis_url(), cert, key) as port:
        # Another name of the host: kombu's pools take connections with other certificates for the same.
        stranger = settings.model_copy(update={"redis_url": f"rediss://127.0.0.1:{port}/0"})
        with pytest.raises(StoreUnavailableError, match="certificate verify failed"):
            Doorbell(stranger).ring("job_1")
        with pytest.raises(StoreUnavailableError, match="certificate verify failed"):
            JobStore(stranger).ping()
        assert store._redis.llen(queue) == 0
        url = f"rediss://localhost:{port}/0?ssl_ca_certs={authority}"
        trusted = settings.model_copy(update={"redis_url": url})
        Doorbell(trusted).ring("job_1")
        JobStore(trusted).ping()
        assert store._redis.llen(queue) == 1


def test_celery_is_not_imported_before_the_first_ring() -> None:
    code = "import sys, jobs.doorbell, jobs.async_store, jobs.artifacts; print('celery' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
